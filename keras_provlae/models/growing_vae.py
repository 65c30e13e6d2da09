"""The abstract ladder VAE that grows: its stage, its iteration and its fade-in are state of the model."""

import warnings
from numbers import Integral

from keras import ops

from keras_provlae.models.ladder_vae import LadderVAE
from keras_provlae.models.trackers import LastValue
from keras_provlae.stage_graphs import StageGraphs

FADE_IN_STEPS = 5000  # iterations of the fade-in, section 3.3


class GrowingVAE(LadderVAE):
    """A `LadderVAE` that starts with its deepest rung, at index 0, and unlocks the others one by one.

    Args:
        *args: As `LadderVAE`.
        **kwargs: As `LadderVAE`.

    Source: Li et al. (2020), sections 3.2 and 3.3.
    """

    fades_in = True  # whether a new rung is blended in by alpha

    def build(self, input_shape):
        """Creates the state of growth and its trackers; called by the constructor."""
        # Integers: a mixed_float16 policy would cast float weights, and 2049 would become 2048.
        self.stage_variable = self._counter("stage")
        self.iteration_variable = self._counter("iteration")
        self.unlocked_at_variable = self._counter("unlocked_at")
        self.fade_in_steps_variable = self._counter("fade_in_steps")
        self.stage_tracker = LastValue(name="stage")
        self.alpha_tracker = LastValue(name="alpha")
        self._graphs = StageGraphs(self.encoder, self.decoder, self.spec.num_rungs)

    # === Growth ===

    @property
    def stage(self) -> int:
        """The progressive step s, 0 .. L - 1: the rungs L .. L - s are unlocked."""
        return int(ops.convert_to_numpy(self.stage_variable))

    @property
    def alpha(self) -> float:
        """The fade-in coefficient of the newest rung, 0.0 .. 1.0; 1.0 at stage 0."""
        return float(ops.convert_to_numpy(self._alpha()))

    @property
    def iteration(self) -> int:
        """Optimiser steps that this model has been trained for, over all calls of `fit`."""
        return int(ops.convert_to_numpy(self.iteration_variable))

    @property
    def fade_in_steps(self) -> int:
        """Length of the newest rung's fade-in, in optimiser steps."""
        return int(ops.convert_to_numpy(self.fade_in_steps_variable))

    def grow(self, fade_in_steps: int = FADE_IN_STEPS) -> None:
        """Unlocks the next rung, L - s - 1, and starts its fade-in.

        The rung before it counts as grown from now on: a fade-in that is not over ends here.

        Args:
            fade_in_steps: Int >= 0. Optimiser steps over which alpha rises from 0 to 1;
                0 blends the rung in at once (the paper's ablation), as a model with `fades_in` false always does.

        Raises:
            ValueError: If every rung is unlocked or `fade_in_steps` is negative.
            TypeError: If `fade_in_steps` is not an integer.
        """
        if self.stage + 1 >= self.num_rungs:
            raise ValueError(f"All {self.num_rungs} rungs are unlocked: the model is fully grown (stage {self.stage}).")
        if not isinstance(fade_in_steps, Integral):
            raise TypeError(f"`fade_in_steps` must be an integer. Received: fade_in_steps={fade_in_steps!r}.")
        if fade_in_steps < 0:
            raise ValueError(f"`fade_in_steps` must not be negative. Received: fade_in_steps={fade_in_steps}.")
        self.before_unlock()
        self.stage_variable.assign(self.stage + 1)
        self.unlocked_at_variable.assign(self.iteration)
        self.fade_in_steps_variable.assign(int(fade_in_steps) if self.fades_in else 0)
        self._renew_train_function()

    def before_unlock(self) -> None:
        """What a model keeps of itself before it grows; nothing by default."""

    def _alpha(self):
        """alpha = min(steps since the unlock / fade_in_steps, 1), in the graph: no callback sets it."""
        steps = ops.cast(self.iteration_variable - self.unlocked_at_variable, "float32")
        fade_in_steps = ops.cast(self.fade_in_steps_variable, "float32")
        rising = ops.minimum(steps / ops.maximum(fade_in_steps, 1.0), 1.0)
        return ops.where(fade_in_steps > 0.0, rising, 1.0)

    def unlocked(self):
        return ops.cast(self._rung_stages() <= self._stage(), "float32")

    def _stage(self):
        return ops.cast(self.stage_variable, "int32")

    def _rung_stages(self):
        return ops.arange(self.num_rungs, dtype="int32")

    # === Training ===

    def make_train_function(self, force=False):
        """As Keras does; anew where the training step was made for another stage, or with another guard."""
        stage = min(self.stage, self._graphs.num_rungs - 1)
        force = force or (stage, self.is_guarded) != (self._graphs.stage, self._graphs.is_guarded)
        self._graphs.stage, self._graphs.is_guarded = stage, self.is_guarded
        super().make_train_function(force=force)

    def make_test_function(self, force=False):
        """As Keras does; anew where it was made with another guard."""
        force = force or self.is_guarded != self._graphs.test_is_guarded
        self._graphs.test_is_guarded = self.is_guarded
        return super().make_test_function(force=force)

    def reset_metrics(self):
        """As Keras does, at the beginning of every epoch: weights that a callback restored may be of another stage."""
        super().reset_metrics()
        self._renew_train_function()

    def _renew_train_function(self):
        if self.train_function is not None:
            self.make_train_function()

    def _networks_of_step(self):
        if not self._graphs.in_step or self._regularizes_activities():
            return super()._networks_of_step()
        return self._graphs.encoder, self._graphs.of_stage

    def _regularizes_activities(self):
        """Whether a layer must be called itself: the networks of a stage compute several in one."""
        layers = [*self.encoder.layers, *self.decoder.layers]
        return any(getattr(layer, "activity_regularizer", None) is not None for layer in layers)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """As `LadderVAE`; every call with `training` true counts as an optimizer step.

        `fit` and `train_on_batch` call it once a step. A training loop of your own calls it once a step, too, and then
        alpha rises with its steps; pass `training=False` to validate, or for all but one of the batches whose
        gradients you add up.
        """
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training:
            one = ops.maximum(ops.cast(ops.isfinite(loss), "int32"), 1)  # a step that stops at its loss does not count
            self.iteration_variable.assign(self.iteration_variable + ops.cast(one, self.iteration_variable.dtype))
        if self._graphs.in_step and self._weights_decay():
            # weights decay where there is a gradient: that of a locked rung is 0, not missing
            loss += 0.0 * sum(ops.sum(variable) for variable in self._graphs.unused)
        return loss

    def _weights_decay(self):
        optimizer = getattr(self, "optimizer", None)  # an uncompiled model has none
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        return optimizer is not None and bool(optimizer.weight_decay)

    def train_step(self, *args):
        """One step of the backend's trainer, without the locked rungs of the decoder."""
        self._graphs.in_step = True
        try:
            with warnings.catch_warnings():
                if self._graphs.unused:
                    warnings.filterwarnings("ignore", "Gradients do not exist for variables", UserWarning)
                return super().train_step(*args)
        finally:
            self._graphs.in_step = False

    def _track(self, reconstruction, rung_kls, further, batch):
        super()._track(reconstruction, rung_kls, further, batch)
        self.stage_tracker.update_state(self.stage_variable)
        self.alpha_tracker.update_state(self._alpha())

    def _counter(self, name):
        return self.add_weight(
            shape=(),
            dtype="int",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name=name,
        )
