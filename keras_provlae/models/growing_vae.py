"""The abstract ladder VAE that grows: its stage, its iteration and its fade-in are state of the model."""

import warnings
from typing import Any

from keras import callbacks, ops

from keras_provlae.checks import check_count
from keras_provlae.models.ladder_vae import LadderVAE
from keras_provlae.models.trackers import LastValue

FADE_IN_STEPS = 5000  # iterations of the fade-in, section 3.3


class GrowingVAE(LadderVAE):
    """A `LadderVAE` that starts with its deepest rung, at index 0, and unlocks the others one by one.

    Args:
        *args: As `LadderVAE`.
        **kwargs: As `LadderVAE`.

    Attributes:
        growth_listeners: Objects whose methods `before_unlock(model)` and `after_unlock(model)` are called by `grow`. A
            callback appends itself in `on_train_begin`; the end of `fit` removes it.

    Source: Li et al. (2020), sections 3.2 and 3.3.
    """

    grows = True
    fades_in = True  # whether a new rung is blended in by alpha

    def build(self, input_shape: Any) -> None:
        """Creates the state of growth and its trackers; called by the constructor."""
        # Integers: a mixed_float16 policy would cast float weights, and 2049 would become 2048.
        self.stage_variable = self._counter("stage")
        self.iteration_variable = self._counter("iteration")
        self.unlocked_at_variable = self._counter("unlocked_at")
        self.fade_in_steps_variable = self._counter("fade_in_steps")
        self.stage_tracker = LastValue(name="stage")
        self.alpha_tracker = LastValue(name="alpha")
        self.growth_listeners: list[Any] = []

    def _counter(self, name):
        how = {"dtype": "int", "initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
        return self.add_weight(shape=(), name=name, **how)

    # === Growth ===

    @property
    def stage(self) -> int:
        return int(ops.convert_to_numpy(self.stage_variable))

    @property
    def alpha(self) -> float:
        return float(ops.convert_to_numpy(self._alpha()))

    @property
    def iteration(self) -> int:
        return int(ops.convert_to_numpy(self.iteration_variable))

    @property
    def fade_in_steps(self) -> int:
        """Length of the newest rung's fade-in, in optimizer steps."""
        return int(ops.convert_to_numpy(self.fade_in_steps_variable))

    def grow(self, fade_in_steps: int = FADE_IN_STEPS, to_stage: int | None = None) -> None:
        """Unlocks the next rung, L - s - 1, and starts its fade-in.

        The previous rung counts as grown from now on, even if its fade-in was not over.

        Args:
            fade_in_steps: Int >= 0. Optimizer steps over which alpha rises from 0 to 1. 0 blends the rung in at once
                (the paper's ablation), as a model with `fades_in` false always does.
            to_stage: Int or `None`. The stage to reach, if not the next: the rungs are unlocked together, and the
                newest fades in.

        Raises:
            ValueError: If every rung is unlocked, `fade_in_steps` is negative or there is no such later stage.
            TypeError: If a number is not an integer.
        """
        if self.is_grown:
            raise ValueError(f"All {self.num_rungs} rungs are unlocked: the model is fully grown (stage {self.stage}).")
        check_count("fade_in_steps", fade_in_steps, least=0)
        to_stage = self.stage + 1 if to_stage is None else to_stage
        check_count("to_stage", to_stage, least=self.stage + 1)
        if to_stage >= self.num_rungs:
            raise ValueError(f"`to_stage` must be at most {self.num_rungs - 1}. Received: to_stage={to_stage}.")
        for listener in list(self.growth_listeners):
            listener.before_unlock(self)
        self._unlock(to_stage, int(fade_in_steps) if self.fades_in else 0)
        for listener in list(self.growth_listeners):
            listener.after_unlock(self)

    def _unlock(self, stage, fade_in_steps):
        self.stage_variable.assign(stage)
        self.unlocked_at_variable.assign(self.iteration)
        self.fade_in_steps_variable.assign(fade_in_steps)
        self.renew_train_function()

    def _alpha(self):
        """alpha = min(steps since the unlock / fade_in_steps, 1), in the graph: no callback sets it."""
        steps = ops.cast(self.iteration_variable - self.unlocked_at_variable, "float32")
        fade_in_steps = ops.cast(self.fade_in_steps_variable, "float32")
        rising = ops.minimum(steps / ops.maximum(fade_in_steps, 1.0), 1.0)
        return ops.where(fade_in_steps > 0.0, rising, 1.0)

    def unlocked(self) -> Any:
        return ops.cast(self._rung_stages() <= self._stage(), "float32")

    def _stage(self):
        return ops.cast(self.stage_variable, "int32")

    def _rung_stages(self):
        return ops.arange(self.num_rungs, dtype="int32")

    # === Training: a step decodes the unlocked rungs alone, so it is traced anew after an unlock ===

    def step_key(self) -> tuple:
        return (*super().step_key(), self._rungs_to_decode())

    def _rungs_to_decode(self):
        """The number of unlocked rungs; all where Keras must see every variable, or regularizes activities."""
        optimizer = getattr(self, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of mixed precision
        decays = optimizer is not None and optimizer.weight_decay  # Keras decays variables that have a gradient
        layers = self.decoder.layers
        if decays or any(getattr(layer, "activity_regularizer", None) is not None for layer in layers):
            return self.spec.num_rungs
        return min(self.stage + 1, self.spec.num_rungs)

    def step_inputs(self, images: Any) -> dict[str, Any]:
        *_, decoded = self.traced_key or (self.spec.num_rungs,)
        return {"images": images, "rungs": ops.arange(decoded)}

    def renew_train_function(self) -> None:
        """Has the training step traced for the present stage, where there is one already."""
        if self.train_function is not None:
            self.make_train_function()

    def reset_metrics(self) -> None:
        """As Keras does at the start of every epoch: weights that a callback restored may be of another stage."""
        super().reset_metrics()
        self.renew_train_function()

    def fit(self, *args: Any, **kwargs: Any) -> callbacks.History:
        listeners = list(self.growth_listeners)
        try:
            return super().fit(*args, **kwargs)
        finally:
            self.growth_listeners[:] = listeners

    def train_step(self, *args: Any) -> Any:
        with warnings.catch_warnings():
            # a locked rung's maps have no gradient
            warnings.filterwarnings("ignore", "Gradients do not exist for variables", UserWarning)
            return super().train_step(*args)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Any:
        """As `LadderVAE`; every call with `training` true counts as an optimizer step.

        In a training loop of your own, call it once per step: alpha then rises with your steps. Pass `training=False`
        to validate, and for all but one of the batches whose gradients you accumulate.
        """
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training:
            one = ops.maximum(ops.cast(ops.isfinite(loss), "int32"), 1)  # a step that stops at its loss does not count
            self.iteration_variable.assign(self.iteration_variable + ops.cast(one, self.iteration_variable.dtype))
        return loss

    def _track(self, reconstruction, rung_kls, further, batch):
        super()._track(reconstruction, rung_kls, further, batch)
        self.stage_tracker.update_state(self.stage_variable)
        self.alpha_tracker.update_state(self._alpha())
