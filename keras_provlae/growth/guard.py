"""A way back from an unlock that does harm."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_provlae.checks import check_count
from keras_provlae.growth.monitor import WINDOW, GrowthMonitor, Seen, rise
from keras_provlae.messages import say
from keras_provlae.thresholds import LEAST_NATS
from keras_provlae.training.errors import NonFiniteLossError

NOT_FINITE = "the loss is not finite"


class GrowthGuard:
    """Rules by which `GrowthCallback(guard=...)` undoes an unlock that does harm.

    The monitor reads the running means 1, 2, 4, ... steps after an unlock, and every 100 steps. If one of these rules
    is broken, every weight, the optimizer, the noise and the counters are restored to just before the unlock, and the
    rung is unlocked again with a fade-in twice as long:

    - the loss is not finite (the step does not stop by itself then, as it does without a guard);
    - the KL of an unlocked rung is above `max_kl` nats a latent: its log variances (above 5.3 at 100 nats) or means
      explode;
    - the KL of the unlocked rungs together falls below `min_kl_share` of what it was before: the code collapses;
    - a growth shock: during the fade-in, the negative ELBO rises by more than `max_shock` of its value before.

    The last two need means over 50 steps or more, or over what an epoch has. Without a fade-in, the second attempt gets
    one of 100 steps; a model that does not fade in (`TeacherStudentVAE`) gets one attempt. Undone steps are not
    repeated: `fit` ends when it would have. After `max_retries`, or at the end of `fit`, the model stays as it was
    before the unlock and training stops, with a warning.

    An unlock can be undone until its fade-in has been over for as long as it lasted (1,000 steps at least). Later,
    before the first unlock, and after a resume until the next one, a loss that is not finite ends `fit` with an error,
    as it does without a guard. Put callbacks that save the model after `GrowthCallback`, or they save what it is about
    to undo.

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

    def problem(self, seen: Seen, unlocked: int, widths: Sequence[int]) -> str | None:
        """Describes what is wrong with the means of some steps, in words; `None` if nothing is.

        Args:
            seen: What the monitor found.
            unlocked: Int. Number of unlocked rungs.
            widths: Latents of each rung, deepest first.
        """
        means, before = seen.means, seen.before
        if not math.isfinite(means["negative_elbo"]):
            return NOT_FINITE
        for index, (kl, width) in enumerate(zip(means["rungs"][:unlocked], widths, strict=False)):
            if kl > self.max_kl * width:
                return (
                    f"the KL of rung {len(widths) - index} is {kl / width:.4g} nats a latent (above {self.max_kl:g}): "
                    "its log variances or means explode"
                )
        if before is None or not seen.settled:
            return None
        if before["kl"] > LEAST_NATS and means["kl"] < self.min_kl_share * before["kl"]:
            return f"the KL of the unlocked rungs fell from {before['kl']:.3g} to {means['kl']:.2g} nats: a collapse"
        risen = rise(means["negative_elbo"], before["negative_elbo"])
        if seen.fading and risen > self.max_shock:
            return (
                f"the negative ELBO rose from {before['negative_elbo']:.1f} to {means['negative_elbo']:.1f} nats, by "
                f"{risen:.0%} (more than {self.max_shock:.0%}): a growth shock"
            )
        return None


class GuardedGrowth:
    """Undoes harmful unlocks during one `fit`. A listener of `model.grow`.

    Args:
        guard: A `GrowthGuard`.
        monitor: The `GrowthMonitor` of this `fit`, which hears of unlocks first.

    Attributes:
        has_given_up: Whether the last attempt failed.
    """

    def __init__(self, guard: GrowthGuard, monitor: GrowthMonitor):
        self.guard, self.monitor = guard, monitor
        self.has_given_up = False
        self._state = self._saved_at = None  # everything that is trained, before the last unlock
        self._retries = 0

    def before_unlock(self, model: Any) -> None:
        """Saves the whole model; for a second attempt at an unlock, it is saved already."""
        if self._state is None or model.iteration != self._saved_at:
            self._state, self._saved_at, self._retries = _state(model), model.iteration, 0

    def after_unlock(self, model: Any) -> None:
        """Nothing to do: `undoes` looks at what comes of it."""

    def end(self, model: Any) -> None:
        """Ends the `fit`: after the last attempt, undoes whatever was trained since as well."""
        if self.has_given_up:
            _restore(model, self._state)
        self._state = None  # three times the size of the weights

    def undoes(self, model: Any, seen: Seen, ends_fit: bool) -> bool:
        """Checks what the monitor found; undoes the last unlock if that did harm, and returns whether it did.

        Raises:
            NonFiniteLossError: If the loss is not finite and no unlock can be undone.
        """
        if self.has_given_up:
            return False
        if self._state is not None and seen.since_unlock > max(2 * model.fade_in_steps, 10 * WINDOW):
            self._state = None
            self.monitor.forget()
            seen = seen._replace(before=None)
        problem = self.guard.problem(seen, model.stage + 1, model.rung_widths)
        if problem is None:
            return False
        where = f"At iteration {seen.iteration}, stage {model.stage}, {problem}"
        if self._state is None:
            if problem == NOT_FINITE:
                raise NonFiniteLossError(
                    f"{where}, and no unlock of this `fit` can be taken back. Lower the learning rate, or look at the "
                    "images that were given."
                )
            return False
        self._undo(model, problem, where, ends_fit)
        return True

    def _undo(self, model, problem, where, ends_fit):
        stage = model.stage
        fade_in_steps = max(2 * model.fade_in_steps, WINDOW)
        self.monitor.shocks[-1]["problem"] = problem
        _restore(model, self._state)
        model.reset_metrics()
        where += (
            f". Everything is again as it was before the unlock, at iteration {model.iteration}, stage {model.stage}"
        )
        if ends_fit or not model.fades_in or self._retries == self.guard.max_retries:
            self.has_given_up = model.stop_training = True
            self.monitor.next_look = math.inf
            attempts = "1 attempt" if self._retries == 0 else f"{self._retries + 1} attempts"
            warnings.warn(
                f"{where}, and the training stops: {attempts} failed. Raise gamma, lower the learning rate, or train "
                f"stage {model.stage} for longer.",
                stacklevel=2,
            )
            return
        self._retries += 1
        say(f"{where}; attempt {self._retries + 1} fades in over {fade_in_steps} steps.", new_line=True)
        model.grow(fade_in_steps, to_stage=stage)


def _kept(model):
    """Variables that are the state of a run: all but the running means."""
    means = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in means] + list(model.optimizer.variables)


def _state(model):
    return [np.array(ops.convert_to_numpy(variable)) for variable in _kept(model)]


def _restore(model, state):
    for variable, value in zip(_kept(model), state, strict=True):
        variable.assign(value)
    model.make_train_function()
