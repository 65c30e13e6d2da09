"""What an unlock does to the loss, seen while it trains; and a way back where it does harm."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_provlae.metrics.posteriors import check_count

WINDOW = 100  # optimiser steps between two looks at the running means
NOT_FINITE = "the loss is not finite"


class GrowthGuard:
    """Watches a growing model in `GrowthCallback(guard=...)`, and takes an unlock back that does harm.

    It reads the means that the model keeps anyway: 1, 2, 4, ... steps after an unlock, and every 100 steps. Where
    one of these is seen after an unlock, every weight, the optimizer, the noise and the counters become
    what they were just before it, and the rung is unlocked again with a fade-in twice as long:

    - the loss is not finite (the step does not stop by itself then, as it does without a guard);
    - the KL of an unlocked rung is above `max_kl` nats a latent: its log variances (above 5.3 at 100 nats) or means
      explode;
    - the KL of the unlocked rungs together falls below `min_kl_share` of what it was before: the code collapses;
    - a growth shock: during the fade-in, the negative ELBO is above that before by more than `max_shock` of it.

    The last two are judged on means of 50 steps or more, or of what an epoch has. Where there was no fade-in, the
    second attempt has one of 100 steps; a model that does not fade in (`TeacherStudentVAE`) has one attempt alone.
    Steps that are taken back are not taken again: `fit` ends when it would have. After `max_retries`, or at the end of
    `fit`, the model stays as it was before the unlock, and the training stops. All of it is said in words.

    An unlock can be taken back until its fade-in has been over for as long as it lasted (1,000 steps at least). Later,
    before the first one, and after a resume until the next, there is nothing to go back to: a loss that is not
    finite ends the training with an error then, as it does without a guard. Put callbacks that save the model after
    `GrowthCallback`, or they save what it is about to take back.

    Args:
        max_shock: Float > 0. The largest rise of the negative ELBO, as a share of what it was.
        max_kl: Float > 0. Nats a latent.
        min_kl_share: Float in [0, 1).
        max_retries: Int >= 1. Attempts after the first, for every unlock.

    Raises:
        ValueError: If a number is out of range.
        TypeError: If `max_retries` is not an integer.

    Example:
        >>> guard = GrowthGuard(max_shock=0.1, max_retries=2)

    Source: Li et al. (2020), section 3.3 (the shock of a new rung and the explosion of its variance), table 2.
    """

    def __init__(self, max_shock: float = 0.2, max_kl: float = 100.0, min_kl_share: float = 0.01, max_retries: int = 3):
        for name, value in ("max_shock", max_shock), ("max_kl", max_kl):
            if not value > 0:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}.")
        if not 0 <= min_kl_share < 1:
            raise ValueError(f"`min_kl_share` must be at least 0 and below 1. Received: min_kl_share={min_kl_share}.")
        check_count("max_retries", max_retries)
        self.max_shock, self.max_kl, self.min_kl_share = max_shock, max_kl, min_kl_share
        self.max_retries = max_retries

    def problem(
        self, seen: dict, before: dict | None, fading: bool, settled: bool, widths: Sequence[int]
    ) -> str | None:
        """What is wrong with the means of some steps, in words, or `None`.

        Args:
            seen: `{"negative_elbo": nats, "kl": nats, "rungs": [nats, deepest first]}`, means per image.
            before: The same before the last unlock; `None` where there was none.
            fading: Bool. Whether the newest rung fades in.
            settled: Bool. Whether the means are of enough steps to be compared with those before.
            widths: Latents of each rung, deepest first.
        """
        if not math.isfinite(seen["negative_elbo"]):
            return NOT_FINITE
        for index, (kl, width) in enumerate(zip(seen["rungs"], widths, strict=False)):  # of the unlocked rungs
            if kl > self.max_kl * width:
                return (
                    f"the KL of rung {len(widths) - index} is {kl / width:.4g} nats a latent (above {self.max_kl:g}): "
                    "its log variances or means explode"
                )
        if before is None or not settled:
            return None
        if before["kl"] > 0.1 and seen["kl"] < self.min_kl_share * before["kl"]:
            return f"the KL of the unlocked rungs fell from {before['kl']:.3g} to {seen['kl']:.2g} nats: a collapse"
        risen = rise(seen["negative_elbo"], before["negative_elbo"])
        if fading and risen > self.max_shock:
            return (
                f"the negative ELBO rose from {before['negative_elbo']:.1f} to {seen['negative_elbo']:.1f} nats, by "
                f"{risen:.0%} (more than {self.max_shock:.0%}): a growth shock"
            )
        return None


def rise(after: float, before: float) -> float:
    """How much higher a negative ELBO is than before, as a share of that (of 1 nat, where it is less)."""
    return (after - before) / max(abs(before), 1.0)


class GrowthWatch:
    """Follows the running means of a model through `fit`: what was before each unlock, and what came after it.

    Args:
        guard: A `GrowthGuard`, or `None` to look without acting.

    Attributes:
        shocks: A list of dicts, one for each unlock and attempt: `stage`, `iteration`, `fade_in_steps`, `before` (the
            negative ELBO in nats, a mean of the last steps; `None` if there were none), `after` (pairs of the steps
            since the unlock and the negative ELBO, a mean of the last 50 of these steps or more, or of all), and
            `problem`, in words, where the guard took it back.
        next_look: The optimiser step before which `look` is due.
        last_shock: The largest rise of the negative ELBO since the last unlock, as a share of that before, of means of
            50 steps or more or of what an epoch has; 0.0 where it did not rise.
        has_given_up: Whether the last attempt failed.
        sees: Whether the model keeps means, as a `GrowingVAE` does; of others there is nothing to see.
    """

    def __init__(self, guard: GrowthGuard | None):
        self.guard = guard
        self.shocks = []

    def begin(self, model: Any) -> None:
        """A new `fit`.

        Raises:
            TypeError: If there is a guard, and the model keeps no means that it could watch.
        """
        self.sees = hasattr(model, "elbo_tracker")
        if self.guard and not self.sees:
            raise TypeError(
                f"A guard watches the means of a GrowingVAE, such as ProgressiveVAE. Received: {type(model).__name__}."
            )
        self.shocks, self._retries, self.has_given_up, self.last_shock = [], 0, False, 0.0
        self._state = self._last = self._before = None
        self.begin_epoch(model)

    def end(self, model: Any) -> None:
        """The end of `fit`: after the last attempt, whatever was trained since is taken back as well."""
        if self.sees and self.has_given_up:
            _restore(model, self._state)
        self._state = None  # three times the size of the weights

    def begin_epoch(self, model: Any) -> None:
        """The means begin anew."""
        if not self.sees:
            self.next_look = math.inf
            return
        self._marks = [(model.iteration, _Sums.of(model))]
        self.next_look = model.iteration + self._steps_to_next_look(model.iteration)

    def before_unlock(self, model: Any) -> None:
        """Remembers the means, and for a guard the whole model."""
        if not self.sees:
            return
        self._read(model, model.iteration)
        self._before, self._retries = self._last, 0
        self._state = _state(model) if self.guard else None

    def after_unlock(self, model: Any) -> None:
        """From here on the means are those of the new stage."""
        if not self.sees:
            return
        facts = {"stage": model.stage, "iteration": model.iteration, "fade_in_steps": model.fade_in_steps}
        before = self._before and self._before["negative_elbo"]
        self.shocks.append({**facts, "before": before, "after": []})
        self.last_shock = 0.0
        self.begin_epoch(model)

    def look(self, model: Any, iteration: int, ends_epoch: bool = False, ends_fit: bool = False) -> bool:
        """Reads the means; returns whether the guard took an unlock back."""
        if not self.sees or self.has_given_up:
            return False
        steps, seen = self._read(model, iteration)
        self.next_look = iteration + self._steps_to_next_look(iteration)
        if seen is None:
            return False
        fading, settled = self._is_fading(iteration), ends_epoch or steps >= WINDOW // 2
        if fading:
            shock = self.shocks[-1]
            shock["after"].append((self._since_unlock(iteration), seen["negative_elbo"]))
            if settled and shock["before"] is not None:
                self.last_shock = max(self.last_shock, rise(seen["negative_elbo"], shock["before"]))
        if self.guard is None:
            return False
        if self._state is not None and self._since_unlock(iteration) > max(2 * model.fade_in_steps, 10 * WINDOW):
            self._state = self._before = None
        unlocked = {**seen, "rungs": seen["rungs"][: model.stage + 1]}
        problem = self.guard.problem(unlocked, self._before, fading, settled, model.latent_groups)
        return problem is not None and self._take_back(model, problem, iteration, ends_fit)

    def _take_back(self, model, problem, iteration, ends_fit):
        where = f"At iteration {iteration}, stage {model.stage}, {problem}"
        if self._state is None:
            if problem == NOT_FINITE:
                raise ValueError(
                    f"{where}, and no unlock of this `fit` can be taken back. Lower the learning rate, or look at the "
                    "images that were given."
                )
            return False
        stage, fade_in_steps = model.stage, max(2 * model.fade_in_steps, WINDOW)
        self.shocks[-1]["problem"] = problem
        _restore(model, self._state)
        model.reset_metrics()
        where += (
            f". Everything is again as it was before the unlock, at iteration {model.iteration}, stage {model.stage}"
        )
        if ends_fit or not model.fades_in or self._retries == self.guard.max_retries:
            self.has_given_up = model.stop_training = True
            attempts = "1 attempt" if self._retries == 0 else f"{self._retries + 1} attempts"
            warnings.warn(
                f"{where}, and the training stops: {attempts} failed. Raise gamma, lower the learning rate, or train "
                f"stage {model.stage} for longer.",
                stacklevel=2,
            )
            self.next_look = math.inf
            return True
        self._retries += 1
        while model.stage < stage:
            model.grow(fade_in_steps=fade_in_steps if model.stage + 1 == stage else 0)
        print(f"\n{where}; attempt {self._retries + 1} fades in over {model.fade_in_steps} steps.", flush=True)
        self.after_unlock(model)
        return True

    def _read(self, model, iteration):
        """`(steps, means)` of the last `WINDOW` / 2 steps or more, where there are as many; `None` of none."""
        now = _Sums.of(model)
        far = [mark for mark in self._marks if iteration - mark[0] >= WINDOW // 2]
        marked_at, sums = far[-1] if far else self._marks[0]
        seen = now.since(sums)
        self._marks = [*far[-1:], *(mark for mark in self._marks if mark not in far), (iteration, now)]
        self._last = seen or self._last
        return iteration - marked_at, seen

    def _since_unlock(self, iteration):
        return iteration - self.shocks[-1]["iteration"]

    def _is_fading(self, iteration):
        return bool(self.shocks) and self._since_unlock(iteration) <= max(WINDOW, self.shocks[-1]["fade_in_steps"])

    def _steps_to_next_look(self, iteration):
        """1, 1, 2, 4, ... after an unlock, so that looks are at 1, 2, 4, 8, ... steps."""
        since = self._since_unlock(iteration) if self.shocks else WINDOW
        return min(max(since, 1), WINDOW)


class _Sums(NamedTuple):
    """What the trackers of a model have added up since the beginning of the epoch."""

    images: float
    negative_elbo: float
    kl: float
    rungs: tuple

    @classmethod
    def of(cls, model):
        def total(tracker):
            return float(ops.convert_to_numpy(tracker.total))

        images = float(ops.convert_to_numpy(model.elbo_tracker.count))
        rungs = tuple(map(total, model.rung_trackers))
        return cls(images, -total(model.elbo_tracker), total(model.kl_tracker), rungs)

    def since(self, earlier):
        """Means of what came after an earlier reading; `None` where nothing came."""
        images = self.images - earlier.images
        if images <= 0:
            return None
        pairs = zip(self.rungs, earlier.rungs, strict=True)
        return {
            "negative_elbo": (self.negative_elbo - earlier.negative_elbo) / images,
            "kl": (self.kl - earlier.kl) / images,
            "rungs": [(now - before) / images for now, before in pairs],
        }


def _kept(model):
    """Variables that are the state of a training: all but the running means."""
    means = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in means] + list(model.optimizer.variables)


def _state(model):
    return [np.array(ops.convert_to_numpy(variable)) for variable in _kept(model)]


def _restore(model, state):
    for variable, value in zip(_kept(model), state, strict=True):
        variable.assign(value)
    model.make_train_function()
