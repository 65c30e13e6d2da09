"""The callback that grows a ladder during `fit`."""

import math
from typing import Any

import keras

from keras_provlae.checks import check_count
from keras_provlae.growth.auto import AutoGrowth
from keras_provlae.growth.fit_state import GrowthOfFit
from keras_provlae.growth.guard import GrowthGuard
from keras_provlae.growth.schedule import GrowthSchedule
from keras_provlae.messages import say
from keras_provlae.models.growing_vae import FADE_IN_STEPS

LONGEST_FADE = 2**31 - 1  # the model counts steps in 32 bits


class GrowthCallback(keras.callbacks.Callback):
    """Unlocks the rungs of a `ProgressiveVAE` (or `TeacherStudentVAE`) during `fit`, one `fit` for all stages.

    The callback decides when to call `model.grow`, and for how many steps the new rung fades in. alpha is computed by
    the model, from its own counter, at every optimizer step. Everything that matters is state of the model: a run
    resumed by `BackupAndRestore`, or from a `.keras` file with `initial_epoch`, grows on as it would have (`"auto"`
    restarts its patience).

    Epochs of a schedule count all training of the model: `initial_epoch` when `fit` is given one (or resumes), else
    the steps of earlier calls of `fit`. Only the even split looks at the epochs of this `fit` alone, shared by the
    rungs that are still to come. For data of unknown length, a later `fit` that begins at epoch 0 counts from the
    start of its stage.

    `EarlyStopping` may stop before the model has grown (use its `start_from_epoch`), and its `restore_best_weights`
    also restores the stage of those weights.

    Args:
        schedule: A `GrowthSchedule`, or `None` to share the epochs of `fit` evenly. With fewer epochs than rungs, the
            optimizer steps are shared. Or `"auto"`, or an `AutoGrowth`: unlocks when the validation ELBO stops
            improving, as long as the newest rung carries information; the end of `fit` prints what that suggests for L
            and the widths of the codes.
        fade_in_steps: Int >= 0. Optimizer steps over which alpha rises from 0 to 1.
        fade_in: Bool. `False` blends new rungs in at once (the paper's ablation, table 2).
        max_fade_fraction: Float > 0 or `None`. The longest fade-in, as a fraction of its stage, where the length of
            the stage is known; `None` lifts the limit. The next unlock ends a fade-in.
        verbose: 0 or 1. 1 prints a line at every unlock.
        guard: Bool or `GrowthGuard`. Whether to undo an unlock that does harm (a loss that is not finite, an explosion,
            a collapse, a shock) and try again with a longer fade-in; `True` is `GrowthGuard()`.

    Attributes:
        shocks: The loss before and after each unlock, a list of dicts: see `growth.monitor.GrowthMonitor`, and
            `visualization.growth_shocks` for the figure. The largest rise since the last unlock is in `logs` as
            `growth_shock`, as a fraction of the negative ELBO before it.

    Raises:
        ValueError: If `fade_in_steps` is negative or `max_fade_fraction` not positive and finite.
        TypeError: If `schedule`, `fade_in_steps` or `guard` is of another type; at the start of `fit`, if the model
            cannot grow.

    Example:
        >>> callback = GrowthCallback(GrowthSchedule(epochs_per_rung=15), fade_in_steps=5000)

    Source: Li et al. (2020), section 3.3.
    """

    def __init__(
        self,
        schedule: GrowthSchedule | AutoGrowth | str | None = None,
        fade_in_steps: int = FADE_IN_STEPS,
        fade_in: bool = True,
        max_fade_fraction: float | None = 0.5,
        verbose: int = 0,
        guard: bool | GrowthGuard = False,
    ):
        super().__init__()
        schedule = AutoGrowth() if schedule == "auto" else schedule
        if schedule is not None and not isinstance(schedule, GrowthSchedule | AutoGrowth):
            raise TypeError(
                '`schedule` must be a GrowthSchedule, such as GrowthSchedule(epochs_per_rung=5), "auto", an AutoGrowth '
                f"or None. Received: schedule={schedule!r}."
            )
        check_count("fade_in_steps", fade_in_steps, least=0)
        if fade_in_steps > LONGEST_FADE:
            raise ValueError(f"`fade_in_steps` must be at most {LONGEST_FADE:,}. Received: {fade_in_steps}.")
        if max_fade_fraction is not None and not 0 < max_fade_fraction < math.inf:
            raise ValueError(
                f"`max_fade_fraction` must be positive and finite; None lifts the limit. Received: {max_fade_fraction}."
            )
        if not isinstance(guard, bool | GrowthGuard):
            raise TypeError(f"`guard` must be True, False or a GrowthGuard. Received: guard={guard!r}.")
        self.auto = schedule if isinstance(schedule, AutoGrowth) else None
        self.schedule = GrowthSchedule() if schedule is None or self.auto else schedule
        self.fade_in_steps = fade_in_steps if fade_in else 0
        self.max_fade_fraction = max_fade_fraction
        self.verbose = verbose
        self.guard = GrowthGuard() if guard is True else guard or None
        self._fit: Any = None  # the state of one `fit`

    @property
    def needs_validation(self) -> bool:
        """Returns whether `fit` must be given validation data, for every epoch."""
        return self.auto is not None

    @property
    def shocks(self) -> list[dict]:
        return self._fit.monitor.shocks if self._fit else []

    def set_model(self, model: keras.Model) -> None:
        if not getattr(model, "grows", False):
            raise TypeError(
                "GrowthCallback needs a model that can grow, such as ProgressiveVAE. "
                f"Received: {type(model).__name__}. Leave the callback out for models that train all rungs at once."
            )
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.params.setdefault("logged", []).append("growth_shock")  # so that a later `CSVLogger` knows the column
        self._fit = GrowthOfFit(self)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._fit.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._fit.begin_step(batch)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._fit.end_steps()  # validation resets the means

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._fit.end_steps()
        if logs is not None:
            logs["growth_shock"] = self._fit.monitor.last_shock
        if self.auto:
            self._fit.is_due = self.auto.end_epoch(self.model, logs or {})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.params.pop("logged", None)  # of this `fit`; `History` keeps the others, which are plain numbers
        if self.auto and (advice := self.auto.end(self.model, logs or {})):
            say(advice, new_line=True)
        self._fit.end()
