"""pro-VLAE: a ladder VAE that starts with its deepest rung and grows (the paper's model)."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import keras
from keras import ops

from keras_provlae import presets
from keras_provlae.models.ladder_vae import LadderVAE
from keras_provlae.models.trackers import LastValue
from keras_provlae.models.validation import non_negative

FADE_IN_STEPS = 5000  # iterations of the fade-in, section 3.3


@keras.saving.register_keras_serializable(package="keras_provlae")
class ProgressiveVAE(LadderVAE):
    """A ladder VAE that grows from its deepest rung to its shallowest.

    At stage s the rungs L .. L - s are unlocked. The newest is blended in by alpha, which
    rises from 0 to 1 by one step per optimiser step; the KL of unlocked rungs weighs `beta`,
    that of locked ones `gamma`. Nothing is ever frozen, and growing recompiles nothing.

    Stage, iteration and fade are variables of the model: `.keras` files, `save_weights` and
    `BackupAndRestore` carry them, so a training killed in the middle of a fade resumes in it.
    `GrowthCallback` unlocks the rungs during `fit`.

    Args:
        image_shape: `(height, width, channels)` in pixels.
        num_rungs: Int L >= 1. Rung L is the deepest, the most abstract.
        latent_dim: Int >= 1, or L of them ordered from rung 1: width of each rung's code.
        beta: Float >= 0. Weight of the KL of unlocked rungs.
        gamma: Float >= 0. Weight of the KL of locked rungs; 0 is the paper's ablation.
        **kwargs: `likelihood`, `name`, `dtype` and the architecture, as `LadderVAE`.

    Raises:
        ValueError: If a number is out of range or the image too small for L rungs.

    Example:
        >>> model = ProgressiveVAE(image_shape=(8, 8, 1), num_rungs=2, latent_dim=3, channels=4, dense=8)
        >>> model.grow(fade_in_steps=100)
        >>> model.stage, model.alpha
        (1, 0.0)

    Source: Li et al. (2020), sections 3.2 and 3.3.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        num_rungs: int,
        latent_dim: int | Sequence[int],
        beta: float = 1.0,
        gamma: float = 0.5,
        **kwargs: Any,
    ):
        super().__init__(image_shape, num_rungs, latent_dim, beta=beta, **kwargs)
        self.gamma = non_negative("gamma", gamma)

    def build(self, input_shape):
        """Creates the state of growth and its trackers; called by the constructor."""
        # Integers: a mixed_float16 policy would cast float weights, and 2049 would become 2048.
        self.stage_variable = self._counter("stage")
        self.iteration_variable = self._counter("iteration")
        self.unlocked_at_variable = self._counter("unlocked_at")
        self.fade_in_steps_variable = self._counter("fade_in_steps")
        self.stage_tracker = LastValue(name="stage")
        self.alpha_tracker = LastValue(name="alpha")

    @classmethod
    def preset_settings(cls, preset: str) -> dict:
        return presets.preset(preset)["model"]

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
                0 blends the rung in at once (the paper's ablation).

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
        self.stage_variable.assign(self.stage + 1)
        self.unlocked_at_variable.assign(self.iteration)
        self.fade_in_steps_variable.assign(int(fade_in_steps))

    def _alpha(self):
        """alpha = min(steps since the unlock / fade_in_steps, 1), in the graph: no callback sets it."""
        steps = ops.cast(self.iteration_variable - self.unlocked_at_variable, "float32")
        fade_in_steps = ops.cast(self.fade_in_steps_variable, "float32")
        rising = ops.minimum(steps / ops.maximum(fade_in_steps, 1.0), 1.0)
        return ops.where(fade_in_steps > 0.0, rising, 1.0)

    # === The two vectors; the rung at index i is unlocked at stage i ===

    def encoder_gates(self):
        """1, but alpha for the newest rung: a locked rung's head sees h_l as it is."""
        return ops.where(self._rung_stages() == self._stage(), self._alpha(), 1.0)

    def decoder_gates(self):
        """1 for grown rungs, alpha for the newest, 0 for locked ones."""
        return self.encoder_gates() * self.unlocked()

    def kl_weights(self):
        """beta for unlocked rungs, gamma for locked ones (equations 8 and 10)."""
        return ops.where(self.unlocked() > 0.0, self.beta, self.gamma)

    def unlocked(self):
        return ops.cast(self._rung_stages() <= self._stage(), "float32")

    def _stage(self):
        return ops.cast(self.stage_variable, "int32")

    def _rung_stages(self):
        return ops.arange(self.num_rungs, dtype="int32")

    # === Training ===

    def train_step(self, *args):
        """One step of the backend's trainer, then one step of alpha."""
        if keras.backend.backend() != "jax":
            logs = super().train_step(*args)
            self.iteration_variable.assign(self.iteration_variable + 1)
            return logs
        # JAX steps are functions of the state: (logs, (trainable, non-trainable, optimizer, metrics))
        logs, (trainable, non_trainable, *others) = super().train_step(*args)
        index = [variable is self.iteration_variable for variable in self.non_trainable_variables].index(True)
        non_trainable = [value + (i == index) for i, value in enumerate(non_trainable)]
        return logs, (trainable, non_trainable, *others)

    def _track(self, reconstruction, rung_kls, batch):
        super()._track(reconstruction, rung_kls, batch)
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

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}
