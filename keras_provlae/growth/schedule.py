"""When the ladder grows: a schedule of plain numbers, and what it means for one `fit`."""

import itertools
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import keras


class GrowthSchedule:
    """Schedule of unlocks, by epoch or by optimizer step.

    Give one of the three arguments, or none: then the rungs share the epochs of `fit` evenly.

    Args:
        epochs_per_rung: Int >= 1, or L of them from the first stage to the last: the length
            of each stage in epochs.
        unlock_epochs: L - 1 rising ints >= 1: the epochs, counted from 0 as Keras does, at
            whose beginning the rungs L - 1 .. 1 are unlocked.
        unlock_iterations: L - 1 rising ints >= 1: the optimizer steps of the model before
            which they are unlocked, counted over all calls of `fit`.

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
            raise ValueError(
                "A schedule takes one of `epochs_per_rung`, `unlock_epochs` and `unlock_iterations`. "
                f"Received: {given}."
            )
        given = {name: _integers(name, value, rising=name != "epochs_per_rung") for name, value in given.items()}
        self.epochs_per_rung = given.get("epochs_per_rung")
        self.unlock_epochs = given.get("unlock_epochs")
        self.unlock_iterations = given.get("unlock_iterations")

    @property
    def is_even(self) -> bool:
        """Returns whether the rungs simply share the epochs of `fit`."""
        return self.epochs_per_rung is None and self.unlock_epochs is None and self.unlock_iterations is None

    @property
    def last_length(self) -> int:
        """Epochs of the last stage if `epochs_per_rung` sets it, else 0."""
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

    def __repr__(self) -> str:
        given = {name: value for name, value in vars(self).items() if value is not None}
        return f"GrowthSchedule({', '.join(f'{name}={value}' for name, value in given.items())})"


class Plan(NamedTuple):
    """A schedule in the numbers of one `fit`; derived, never saved."""

    points: list  # where the stages 1 .. L - 1 begin
    end: int | None  # where this `fit` ends, in the same unit; None if unknown
    by_iteration: bool = False  # the unit: optimizer steps of the model, or epochs
    offset: int = 0  # epochs of earlier training that the epochs of this `fit` do not count
    last_length: int = 0  # how long the last stage lasts at least, even where this `fit` ends earlier

    def stage_at(self, position):
        return sum(point <= position for point in self.points)

    def next_iteration(self, stage):
        """The optimizer step of the next unlock, so that a batch costs one comparison."""
        return self.points[stage] if self.by_iteration and stage < len(self.points) else float("inf")

    def stage_length(self, stage):
        """In the unit of the points; `None` if unknown."""
        begin = self.points[stage - 1]
        if stage < len(self.points):
            return self.points[stage] - begin
        return None if self.end is None else max(self.end - begin, self.last_length)


def plan_of_fit(schedule: GrowthSchedule, model: keras.Model, params: dict, epoch: int) -> Plan:
    """The plan of a `fit` that begins at `epoch`: 0, or later where it continues a run.

    Args:
        schedule: A `GrowthSchedule`.
        model: A `GrowingVAE`.
        params: The `params` of a callback: `epochs`, and `steps` where that is known.
        epoch: Int. The first epoch of this `fit`.
    """
    epochs, steps, iteration = params["epochs"], params.get("steps"), model.iteration
    if schedule.unlock_iterations is not None:
        end = None if steps is None else iteration + (epochs - epoch) * steps
        return Plan(schedule.unlock_points(model.num_rungs), end, by_iteration=True)
    if schedule.is_even:
        grown = model.stage if epoch == 0 else 0  # stages that are reached already
        rungs = model.num_rungs - grown
        if epochs < rungs and steps is not None:
            start = iteration - epoch * steps
            points = [start + point for point in schedule.unlock_points(rungs, epochs * steps)]
            return Plan([0] * grown + points, start + epochs * steps, by_iteration=True)
        return Plan([0] * grown + schedule.unlock_points(rungs, epochs), epochs)
    points, offset = schedule.unlock_points(model.num_rungs), 0
    if epoch == 0 and iteration > 0:  # `fit` was called before: keep counting its epochs
        offset = round(iteration / steps) if steps else [0, *points][model.stage]
    return Plan(points, epochs + offset, offset=offset, last_length=schedule.last_length)


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
        why = "one for each" if expected == num_rungs else "one for each but the deepest, which is there from the start"
        raise ValueError(
            f"`{name}` must have {expected} of them for {num_rungs} rungs, {why}. Received: {name}={values}."
        )
