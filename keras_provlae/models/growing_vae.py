"""The abstract ladder VAE that grows: its stage, its iteration and its fade-in are state of the model."""

import warnings
from numbers import Integral

import keras
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
        return (self._graphs.encoder, self._graphs.of_stage) if self._graphs.in_step else super()._networks_of_step()

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        if self._graphs.in_step and optimizer is not None and optimizer.weight_decay:
            # weights decay where there is a gradient: that of a locked rung is 0, not missing
            loss += 0.0 * sum(ops.sum(variable) for variable in self._graphs.unused)
        return loss

    def train_step(self, *args):
        """One step of the backend's trainer, without the locked rungs of the decoder, then one step of alpha."""
        self._graphs.in_step = True
        try:
            with warnings.catch_warnings():
                if self._graphs.unused:
                    warnings.filterwarnings("ignore", "Gradients do not exist for variables", UserWarning)
                return self._train_step(*args)
        finally:
            self._graphs.in_step = False

    def _train_step(self, *args):
        if keras.backend.backend() != "jax":
            logs = super().train_step(*args)
            self.iteration_variable.assign(self.iteration_variable + 1)
            return logs
        # JAX steps are functions of the state: (logs, (trainable, non-trainable, optimizer, metrics))
        logs, (trainable, non_trainable, *others) = super().train_step(*args)
        index = [variable is self.iteration_variable for variable in self.non_trainable_variables].index(True)
        non_trainable = [value + (i == index) for i, value in enumerate(non_trainable)]
        return logs, (trainable, non_trainable, *others)

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
