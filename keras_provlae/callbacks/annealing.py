"""Weights of the loss that change during `fit`."""

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_provlae.callbacks.checks import check_ladder
from keras_provlae.checks import check_count
from keras_provlae.models.loss_weights import loss_weights

INTERPOLATIONS = ("linear", "geometric")


class Annealing(keras.callbacks.Callback):
    """Changes `beta`, `gamma` and other weights of the loss of a ladder model during `fit`.

    A schedule is a list of points `(optimizer step, value)`: between two points the value is interpolated, before the
    first and after the last it is constant. Or a dict `{stage: points or one value}` for every stage of a model that
    grows; the steps of its points count from the unlock of the stage. A value is a float, or one per rung ordered from
    rung 1 where the model has such a weight.

    Steps are the model's own (`model.iteration`), so a resumed run goes on exactly where it was. The training step
    reads the weights from variables and is not traced anew. The values at the end of each epoch are in `logs` under the
    names of the weights (`beta_rung_l` where rungs differ), for `History`, `CSVLogger` and
    `visualization.training_curves`.

    Args:
        interpolation: `"linear"`, or `"geometric"` for values above 0.
        every: Int >= 1. The weights are set at multiples of so many steps (and at the first step, and at unlocks).
            With `steps_per_execution` they are set between executions.
        **schedules: `{name of a weight: schedule}`.

    Raises:
        TypeError, ValueError: If a schedule or another argument is invalid; at the start of `fit`, if the model has no
            such weight, the stages of a schedule are not those of the model, or a value does not fit it.

    Example:
        >>> annealing = Annealing(beta=[(0, 0.5), (20_000, 0.5), (30_000, 4.0)], tc_weight={0: 0.0, 1: 2.0, 2: 2.0})
        >>> annealing.value("beta", step=25_000)
        2.25

    Source: Li et al. (2020), section 5, asks for guidance of the information across the rungs; Burgess et al. (2018),
    "Understanding disentangling in beta-VAE", section 5 (rising capacity).
    """

    def __init__(self, interpolation: str = "linear", every: int = 10, **schedules: Any):
        super().__init__()
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"`interpolation` must be one of {INTERPOLATIONS}. Received: {interpolation!r}.")
        check_count("every", every)
        if not schedules:
            raise ValueError("Annealing needs a schedule, such as `beta=[(0, 1.0), (10_000, 4.0)]`. Received: none.")
        self.interpolation, self.every = interpolation, every
        self.schedules = {name: _schedule(name, schedule) for name, schedule in schedules.items()}
        if interpolation == "geometric":
            for name, schedule in self.schedules.items():
                values = [value for points in schedule.values() for _, value in points]
                if not all(np.all(np.asarray(value) > 0) for value in values):
                    raise ValueError(f"A geometric `{name}` needs values above 0. Received: {schedules[name]}.")

    def value(self, name: str, step: int, stage: int = 0) -> Any:
        """Returns the value of a weight: a float, or an array with one per rung, from rung 1.

        Args:
            name: Name of the weight.
            step: Int >= 0. The optimizer step, counted from the unlock of the stage if the schedule is one of stages.
            stage: Int >= 0. The stage of the model.
        """
        schedule = self.schedules[name]
        points = schedule[stage if stage in schedule else None]
        steps = [point for point, _ in points]
        after = bisect.bisect_right(steps, step)
        if after in (0, len(points)):
            return points[max(after - 1, 0)][1]
        (start, first), (end, second) = points[after - 1], points[after]
        part, first, second = (step - start) / (end - start), np.asarray(first), np.asarray(second)
        geometric = self.interpolation == "geometric"
        value = first * (second / first) ** part if geometric else first + part * (second - first)
        return float(value) if np.ndim(value) == 0 else value

    def set_model(self, model: keras.Model) -> None:
        check_ladder(self, model)
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        model, weights = self.model, loss_weights(self.model)
        for name, schedule in self.schedules.items():
            if name not in weights:
                raise ValueError(
                    f"{type(model).__name__} has no loss weight `{name}` to change: it has {', '.join(weights)}. "
                    "`tc_weight` needs `dataset_size`, and others a first value, in the constructor."
                )
            if None not in schedule and set(schedule) != set(range(model.num_rungs)):
                raise ValueError(
                    f"`{name}` needs a schedule for each of the stages 0 .. {model.num_rungs - 1}. Received: stages "
                    f"{', '.join(map(str, sorted(schedule)))}."
                )
            for points in schedule.values():
                for _, value in points:
                    weights[name].checked(model, value)
        self._per_rung = {
            name: any(np.ndim(value) for points in schedule.values() for _, value in points)
            for name, schedule in self.schedules.items()
        }
        self.params.setdefault("logged", []).extend(self._values())  # so that a later `CSVLogger` knows the columns
        self._next = 0
        if model.grows:
            model.growth_listeners.append(self)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batch = 0
        self._count()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._batch = batch
        if self._is_stale:
            self._count(batch)
        step = self._start + batch  # plain numbers: reading the model would stop the device at every step
        if step >= self._next:
            self._set(step)

    def before_unlock(self, model: keras.Model) -> None:
        """Does nothing: the weights of the old stage hold to its end."""

    def after_unlock(self, model: keras.Model) -> None:
        """Sets the weights of the new stage before its first step; called by `model.grow`."""
        self._count(self._batch)
        self._is_stale = True  # this may be before or after this callback heard of the batch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs.update(self._values())

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.params.pop("logged", None)  # `History` keeps `params`: only numbers may stay

    def _count(self, batch=0):
        """Reads the model's counters; between epochs they may have been restored."""
        model = self.model
        iteration, self._is_stale = model.iteration, False
        self._start = iteration - batch
        self._stage = model.stage
        self._unlocked_at = int(ops.convert_to_numpy(model.unlocked_at_variable)) if model.grows else 0
        self._set(iteration)

    def _set(self, step):
        """Sets every weight to its value at the last multiple of `every` steps."""
        for name, schedule in self.schedules.items():
            since = step if None in schedule else step - self._unlocked_at
            value = self.value(name, since // self.every * self.every, self._stage)
            if not np.array_equal(value, getattr(self.model, name)):
                setattr(self.model, name, value)
        starts = [0 if None in schedule else self._unlocked_at for schedule in self.schedules.values()]
        self._next = min(start + ((step - start) // self.every + 1) * self.every for start in starts)

    def _values(self):
        """The weights as they are now, for `logs`."""
        values = {}
        for name in self.schedules:
            value = getattr(self.model, name)
            if not self._per_rung[name]:
                values[name] = value
                continue
            rungs = range(1, self.model.num_rungs + 1)
            each = value if isinstance(value, tuple) else [value] * len(rungs)
            values |= {f"{name}_rung_{rung}": one for rung, one in zip(rungs, each, strict=True)}
        return values


def _schedule(name, schedule):
    """`{stage: points}`, or `{None: points}` for steps of the whole training."""
    if isinstance(schedule, Mapping):
        if not schedule or not all(isinstance(stage, Integral) for stage in schedule):
            raise TypeError(f"The stages of `{name}` must be integers. Received: {name}={schedule!r}.")
        return {
            int(stage): _points(name, points if _is_points(points) else [(0, points)])
            for stage, points in schedule.items()
        }
    if not _is_points(schedule):
        raise TypeError(
            f"`{name}` must be a list of points (step, value), or a dict with one for every stage. "
            f"Received: {name}={schedule!r}."
        )
    return {None: _points(name, schedule)}


def _is_points(values):
    return (
        isinstance(values, Sequence)
        and len(values) > 0
        and all(isinstance(point, Sequence) and len(point) == 2 for point in values)
    )


def _points(name, points):
    steps = [step for step, _ in points]
    for step in steps:
        check_count(f"a step of {name}", step, least=0)
    if any(one >= other for one, other in itertools.pairwise(steps)):
        raise ValueError(f"The steps of `{name}` must rise. Received: {steps}.")
    for _, value in points:
        if isinstance(value, str) or not all(isinstance(number, Real) for number in np.ravel(value)):
            raise TypeError(f"The values of `{name}` must be numbers, or one per rung. Received: {value!r}.")
        if not all(0 <= number < math.inf for number in np.ravel(value)):
            raise ValueError(f"The values of `{name}` must be finite numbers >= 0. Received: {value}.")
    return [(int(step), tuple(value) if isinstance(value, Sequence) else float(value)) for step, value in points]
