"""When the ladder grows: a schedule of plain numbers, and the callback that follows it."""

import itertools
import math
import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import keras

from keras_provlae.auto_growth import AutoGrowth
from keras_provlae.guard import GrowthGuard, GrowthWatch

LONGEST_FADE = 2**31 - 1  # the model counts steps in 32 bits


class GrowthSchedule:
    """Which epoch, or which optimiser step, unlocks which rung.

    Give one of the three arguments, or none: then the rungs share the epochs of `fit` evenly.

    Args:
        epochs_per_rung: Int >= 1, or L of them from the first stage to the last: the length
            of each stage in epochs.
        unlock_epochs: L - 1 rising ints >= 1: the epochs, counted from 0 as Keras does, at
            whose beginning the rungs L - 1 .. 1 are unlocked.
        unlock_iterations: L - 1 rising ints >= 1: the optimiser steps of the model before
            which they are unlocked, counted over all its training.

    Raises:
        ValueError: If more than one is given, or one is not rising or not positive.
        TypeError: If a number is not an integer.

    Example:
        >>> GrowthSchedule(epochs_per_rung=15).unlock_points(num_rungs=3)
        [15, 30]
        >>> GrowthSchedule().unlock_points(num_rungs=3, epochs=10)
        [3, 6]

    Source: Li et al. (2020), section 4: every progressive step lasts as many epochs as the others.
    """

    def __init__(
        self,
        epochs_per_rung: int | Sequence[int] | None = None,
        unlock_epochs: Sequence[int] | None = None,
        unlock_iterations: Sequence[int] | None = None,
    ):
        given = {
            name: value
            for name, value in [
                ("epochs_per_rung", epochs_per_rung),
                ("unlock_epochs", unlock_epochs),
                ("unlock_iterations", unlock_iterations),
            ]
            if value is not None
        }
        if len(given) > 1:
            raise ValueError(f"A schedule takes one of its arguments. Received: {given}.")
        given = {name: _integers(name, value, rising=name != "epochs_per_rung") for name, value in given.items()}
        self.epochs_per_rung = given.get("epochs_per_rung")
        self.unlock_epochs = given.get("unlock_epochs")
        self.unlock_iterations = given.get("unlock_iterations")

    @property
    def is_even(self) -> bool:
        """Whether the rungs simply share the epochs of `fit`."""
        return self.epochs_per_rung is None and self.unlock_epochs is None and self.unlock_iterations is None

    @property
    def last_length(self) -> int:
        """Epochs of the last stage where `epochs_per_rung` says so, else 0."""
        lengths = self.epochs_per_rung or 0
        return lengths if isinstance(lengths, int) else lengths[-1]

    def unlock_points(self, num_rungs: int, epochs: int | None = None) -> list[int]:
        """The epochs (or iterations, for `unlock_iterations`) at which the rungs L - 1 .. 1 are unlocked.

        Args:
            num_rungs: Int L >= 1.
            epochs: Int. What an even schedule divides (at least 1 each); not needed for the others.

        Returns:
            A list of L - 1 rising ints.

        Raises:
            ValueError: If the schedule was written for another number of rungs.
        """
        if self.is_even:
            if epochs is None:
                raise ValueError("An even schedule needs the `epochs` that it divides. Received: epochs=None.")
            return [max(stage, epochs * stage // num_rungs) for stage in range(1, num_rungs)]
        if self.epochs_per_rung is not None:
            lengths = self.epochs_per_rung
            lengths = [lengths] * num_rungs if isinstance(lengths, int) else list(lengths)
            _require_length("epochs_per_rung", lengths, num_rungs, num_rungs)
            return list(itertools.accumulate(lengths))[:-1]
        name = "unlock_epochs" if self.unlock_epochs is not None else "unlock_iterations"
        points = list(getattr(self, name))
        _require_length(name, points, num_rungs - 1, num_rungs)
        return points

    def __repr__(self):
        given = {name: value for name, value in vars(self).items() if value is not None}
        return f"GrowthSchedule({', '.join(f'{name}={value}' for name, value in given.items())})"


class GrowthCallback(keras.callbacks.Callback):
    """Unlocks the rungs of a `ProgressiveVAE` (or `TeacherStudentVAE`) during `fit`, one `fit` for all stages.

    alpha itself is computed by the model, from its own counter, at every optimiser step: this
    callback only calls `model.grow`. It keeps nothing that matters, so a training resumed by
    `BackupAndRestore`, or from a `.keras` file with `initial_epoch`, grows on as it would have (`"auto"` begins its
    patience anew).

    Epochs of a schedule count the training that the model has been through: `initial_epoch` when
    `fit` is given one (or resumes), else the steps taken in earlier calls of `fit`. Only the even
    split looks at the epochs of this `fit` alone, shared by the rungs that are still to come. Where data
    have no known length, a later `fit` that begins at epoch 0 counts from the beginning of its stage.

    A callback that wants to see the model before a rung is unlocked appends a function without arguments to
    `params["before_growth"]`, a list that it makes in `on_train_begin` where there is none.

    `EarlyStopping` may stop before the model has grown (use its `start_from_epoch`), and its
    `restore_best_weights` brings the stage of those weights back with them.

    Args:
        schedule: A `GrowthSchedule`, or `None` to share the epochs of `fit` evenly. With fewer
            epochs than rungs, the optimiser steps are shared. Or `"auto"`, or an `AutoGrowth`: rungs are unlocked when
            the validation ELBO stops improving, as long as they carry something; the end of `fit` prints what
            that says about L and the widths of the codes.
        fade_in_steps: Int >= 0. Optimiser steps over which alpha rises from 0 to 1.
        fade_in: Bool. `False` blends new rungs in at once (the paper's ablation, table 2).
        max_fade_fraction: Float > 0 or `None`. The fade-in lasts at most this part of its
            stage, where the stage's length is known; `None` lifts the limit. A fade-in that is
            not over at the next unlock ends there.
        verbose: 0 or 1. 1 prints a line at every unlock.
        guard: Bool or `GrowthGuard`. Whether an unlock that does harm (a loss that is not finite, an explosion, a
            collapse, a shock) is taken back and tried again with a longer fade-in; `True` is `GrowthGuard()`.

    Attributes:
        shocks: What the loss was before and after each unlock, a list of dicts: see `guard.GrowthWatch`, and
            `visualization.growth_shocks` for the figure. The largest rise since the last unlock
            is in `logs` as `growth_shock`, a share of the negative ELBO before it.

    Raises:
        ValueError: If `fade_in_steps` is negative or `max_fade_fraction` not positive and finite.
        TypeError: If `schedule` is none of these, `fade_in_steps` no integer or `guard` neither a bool nor a
            `GrowthGuard`; at the start of `fit`, if the model cannot grow.

    Example:
        >>> callback = GrowthCallback(GrowthSchedule(epochs_per_rung=15), fade_in_steps=5000)

    Source: Li et al. (2020), section 3.3.
    """

    def __init__(
        self,
        schedule: GrowthSchedule | AutoGrowth | str | None = None,
        fade_in_steps: int = 5000,
        fade_in: bool = True,
        max_fade_fraction: float | None = 0.5,
        verbose: int = 0,
        guard: bool | GrowthGuard = False,
    ):
        super().__init__()
        if schedule == "auto":
            schedule = AutoGrowth()
        if schedule is not None and not isinstance(schedule, GrowthSchedule | AutoGrowth):
            raise TypeError(
                f'`schedule` must be a GrowthSchedule, "auto", an AutoGrowth or None. Received: schedule={schedule!r}.'
            )
        if not isinstance(fade_in_steps, Integral) or isinstance(fade_in_steps, bool):
            raise TypeError(f"`fade_in_steps` must be an integer. Received: fade_in_steps={fade_in_steps!r}.")
        if fade_in_steps < 0:
            raise ValueError(f"`fade_in_steps` must not be negative. Received: fade_in_steps={fade_in_steps}.")
        if fade_in_steps > LONGEST_FADE:
            raise ValueError(f"`fade_in_steps` must be at most {LONGEST_FADE:,}. Received: {fade_in_steps}.")
        if max_fade_fraction is not None and not 0 < max_fade_fraction < math.inf:
            raise ValueError(
                f"`max_fade_fraction` must be positive and finite; None lifts the limit. Received: {max_fade_fraction}."
            )
        self.auto = schedule if isinstance(schedule, AutoGrowth) else None
        self.schedule = GrowthSchedule() if schedule is None or self.auto else schedule
        self.fade_in_steps = fade_in_steps if fade_in else 0
        self.max_fade_fraction = max_fade_fraction
        self.verbose = verbose
        if not isinstance(guard, bool | GrowthGuard):
            raise TypeError(f"`guard` must be True, False or a GrowthGuard. Received: guard={guard!r}.")
        self.guard = GrowthGuard() if guard is True else guard or None
        self._watch = GrowthWatch(self.guard)

    @property
    def needs_validation(self) -> bool:
        """Whether `fit` must be given validation data, for every epoch."""
        return self.auto is not None

    @property
    def shocks(self) -> list[dict]:
        return self._watch.shocks

    def set_model(self, model):
        if not hasattr(model, "grow"):
            raise TypeError(
                "GrowthCallback needs a model that can grow, such as ProgressiveVAE. "
                f"Received: {type(model).__name__}. Leave the callback out for models that train all rungs at once."
            )
        super().set_model(model)

    def on_train_begin(self, logs=None):
        self._plan = None  # made at the first epoch: a callback after this one may restore the model
        self._watch.begin(self.model)
        if self._watch.sees:
            self.params.setdefault("logged", []).append("growth_shock")  # a `CSVLogger` that comes later knows it
        self._taken_back = 0  # steps that the guard took back, in this `fit`
        if self.guard:
            self.model.is_guarded = True
            self.model.make_train_function()
        if self.auto:
            self._next_iteration, self._is_due = float("inf"), False
            self.auto.begin(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_start = self.model.iteration
        self._watch.begin_epoch(self.model)
        self._epoch, self._is_seen = epoch, False
        if self.auto:
            if self._is_due:
                self._grow(self.model.stage + 1)
            return
        if self._plan is None:
            self._plan = _plan(self.schedule, self.model, self.params, epoch)
            self._warn_if_too_long()
            self._first = (epoch, self._epoch_start)
            self._steps_per_epoch = self._expected_steps(epoch)
        else:
            first_epoch, first_iteration = self._first
            taken = self._epoch_start + self._taken_back - first_iteration
            self._steps_per_epoch = round(taken / (epoch - first_epoch))
        if not self._plan.by_iteration:
            self._grow(self._plan.stage_at(epoch + self._plan.offset))
        self._next_iteration = self._plan.next_iteration(self.model.stage)

    def on_train_batch_begin(self, batch, logs=None):
        # plain numbers: reading the model here would stop the device at every step
        iteration = self._epoch_start + batch
        if iteration >= self._watch.next_look and self._watch.look(self.model, iteration):
            self._epoch_start = self.model.iteration - batch
            self._taken_back += iteration - self.model.iteration
            iteration = self.model.iteration
        if iteration >= self._next_iteration:
            self._grow(self._plan.stage_at(iteration))
            self._next_iteration = self._plan.next_iteration(self.model.stage)

    def on_test_begin(self, logs=None):
        self._end_of_steps()  # validation has the means begin anew

    def on_epoch_end(self, epoch, logs=None):
        self._end_of_steps()
        if logs is not None and self._watch.sees:
            logs["growth_shock"] = self._watch.last_shock
        if self.auto:
            self._is_due = self.auto.end_epoch(self.model, logs or {})

    def on_train_end(self, logs=None):
        model = self.model
        self.params.pop("logged", None)  # of this `fit`; `History` keeps the others, which are plain numbers
        if self.auto:
            advice = self.auto.end(model, logs or {})
            if advice:
                print(f"\n{advice}", flush=True)
        self._watch.end(model)
        if self.auto or self._watch.has_given_up:
            return
        if model.stop_training and model.stage + 1 < model.num_rungs:
            warnings.warn(
                f"Training was stopped at stage {model.stage} of {model.num_rungs - 1}: "
                f"{_name_rungs(range(model.num_rungs - model.stage - 1, 0, -1))} never unlocked. Start EarlyStopping "
                "after the last fade-in (`start_from_epoch`).",
                stacklevel=2,
            )

    def _end_of_steps(self):
        """A look at the means of the epoch, once."""
        if self._is_seen:
            return
        self._is_seen, iteration = True, self.model.iteration
        ends_fit = self._epoch + 1 == self.params["epochs"] or self.model.stop_training
        if self._watch.look(self.model, iteration, ends_epoch=True, ends_fit=ends_fit):
            self._taken_back += iteration - self.model.iteration

    def _expected_steps(self, epoch):
        """Steps of an epoch before one was counted: of those before `epoch` where `steps` is unknown or rounded up."""
        steps = self.params.get("steps")
        exact = steps is not None and self.model.steps_per_execution == 1
        return steps if exact or epoch == 0 else round(self._epoch_start / epoch) or steps

    def _grow(self, stage):
        model = self.model
        if model.stage >= stage:
            return
        for observe in self.params.get("before_growth", ()):
            observe()
        self._watch.before_unlock(model)
        while model.stage < stage:
            # where several rungs are due at once, only the newest can fade in
            fade_in_steps = self._fade_in_steps(stage) if model.stage + 1 == stage else 0
            model.grow(fade_in_steps=fade_in_steps)
            if self.verbose:
                how = f"fading in over {fade_in_steps} steps" if fade_in_steps else "without a fade-in"
                print(f"\nStage {model.stage}: rung {model.num_rungs - model.stage} unlocked, {how}", flush=True)
        self._watch.after_unlock(model)

    def _fade_in_steps(self, stage):
        if not getattr(self.model, "fades_in", True):
            return 0
        length = None if self.auto else self._stage_steps(stage)
        if length is None or self.max_fade_fraction is None:
            return self.fade_in_steps
        return min(self.fade_in_steps, int(self.max_fade_fraction * length))

    def _stage_steps(self, stage):
        """How many optimiser steps a stage lasts; `None` if that is not known yet."""
        plan, steps = self._plan, self._steps_per_epoch
        if plan.by_iteration and steps is not None:
            first_epoch, first_iteration = self._first
            plan = plan._replace(end=first_iteration + (self.params["epochs"] - first_epoch) * steps)
        length = plan.stage_length(stage)
        if length is None or plan.by_iteration:
            return length
        return None if steps is None else length * steps

    def _warn_if_too_long(self):
        points, end, num_rungs = self._plan.points, self._plan.end, self.model.num_rungs
        late = [num_rungs - stage for stage, point in enumerate(points, 1) if end is not None and point >= end]
        if late:
            unit = "iteration" if self._plan.by_iteration else "epoch"
            warnings.warn(
                f"The growth schedule is longer than this training: it unlocks rungs at the {unit}s {points}, and "
                f"training ends at {unit} {end}, so {_name_rungs(late)} will stay locked. Train for longer, shorten "
                "the schedule, or call `fit` again to go on.",
                stacklevel=2,
            )


class _Plan(NamedTuple):
    """A schedule in the numbers of one `fit`: derived, never saved."""

    points: list  # where the stages 1 .. L - 1 begin
    end: int | None  # where this `fit` ends, in the same unit; None if unknown
    by_iteration: bool = False  # the unit: optimiser steps of the model, or epochs
    offset: int = 0  # epochs of earlier training that the epochs of this `fit` do not count
    last_length: int = 0  # how long the last stage lasts at least, even where this `fit` ends earlier

    def stage_at(self, position):
        return sum(point <= position for point in self.points)

    def next_iteration(self, stage):
        """The optimiser step of the next unlock, so that a batch costs one comparison."""
        return self.points[stage] if self.by_iteration and stage < len(self.points) else float("inf")

    def stage_length(self, stage):
        """In the unit of the points; `None` if unknown."""
        begin = self.points[stage - 1]
        if stage < len(self.points):
            return self.points[stage] - begin
        return None if self.end is None else max(self.end - begin, self.last_length)


def _plan(schedule, model, params, epoch):
    """The plan of a `fit` that begins at `epoch`: 0, or later where it goes on with a training."""
    epochs, steps, iteration = params["epochs"], params.get("steps"), model.iteration
    if schedule.unlock_iterations is not None:
        end = None if steps is None else iteration + (epochs - epoch) * steps
        return _Plan(schedule.unlock_points(model.num_rungs), end, by_iteration=True)
    if schedule.is_even:
        grown = model.stage if epoch == 0 else 0  # stages that this `fit` has not to make
        rungs = model.num_rungs - grown
        if epochs < rungs and steps is not None:
            start = iteration - epoch * steps
            points = [start + point for point in schedule.unlock_points(rungs, epochs * steps)]
            return _Plan([0] * grown + points, start + epochs * steps, by_iteration=True)
        return _Plan([0] * grown + schedule.unlock_points(rungs, epochs), epochs)
    points, offset = schedule.unlock_points(model.num_rungs), 0
    if epoch == 0 and iteration > 0:  # `fit` was called before: go on counting its epochs
        offset = round(iteration / steps) if steps else [0, *points][model.stage]
    return _Plan(points, epochs + offset, offset=offset, last_length=schedule.last_length)


def _name_rungs(rungs):
    return f"rung{'s' if len(rungs) != 1 else ''} {', '.join(map(str, rungs))}"


def _integers(name, value, rising):
    """A positive int, or a list of them that rises where it must."""
    single = isinstance(value, Integral) and not rising
    numbers = [value] if single else value
    if not hasattr(numbers, "__len__") or not all(isinstance(n, Integral) for n in numbers):
        raise TypeError(f"`{name}` must be made of integers. Received: {name}={value!r}.")
    if any(n < 1 for n in numbers) or (rising and any(a >= b for a, b in itertools.pairwise(numbers))):
        raise ValueError(f"`{name}` must be positive{' and rising' if rising else ''}. Received: {name}={value}.")
    return int(value) if single else [int(n) for n in numbers]


def _require_length(name, values, expected, num_rungs):
    if len(values) != expected:
        raise ValueError(f"`{name}` needs {expected} entries for {num_rungs} rungs. Received: {name}={values}.")
