"""pro-VLAE: a ladder VAE that starts with its deepest rung and grows (the paper's model)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_provlae import presets
from keras_provlae.models.loss_weights import LossWeight
from keras_provlae.models.supervised_vae import SupervisedVAE


@keras.saving.register_keras_serializable(package="keras_provlae")
class ProgressiveVAE(SupervisedVAE):
    """A ladder VAE that grows from its deepest rung to its shallowest.

    At stage s the rungs L .. L - s are unlocked. The newest is blended in by alpha, which rises linearly from 0 to 1
    over the optimizer steps of the fade-in. The KL of unlocked rungs is weighted by `beta`, that of locked rungs by
    `gamma`. No weight is ever frozen and the optimizer goes on; the training step is traced anew once per unlock.

    Stage, iteration and fade are variables of the model: `.keras` files, `save_weights` and `BackupAndRestore` carry
    them, so a run killed mid-fade resumes in it. `GrowthCallback` unlocks the rungs during `fit`.

    Args:
        image_shape: `(height, width, channels)` in pixels.
        num_rungs: Int L >= 1. Rung L is the deepest, the most abstract.
        latent_dim: Int >= 1, or L of them ordered from rung 1: width of each rung's code.
        beta: Float >= 0, or L of them ordered from rung 1. Weight of the KL of unlocked rungs.
        gamma: Float >= 0. Weight of the KL of locked rungs; 0 is the paper's ablation.
        **kwargs: `multiscale_weight` and `contour_weight`, as `SupervisedVAE`; `capacity`, `tc_weight` and
            `dataset_size`, `likelihood`, `name`, `dtype` and the architecture, as `LadderVAE`.

    Raises:
        ValueError: If a number is out of range or the image too small for L rungs.

    Example:
        >>> model = ProgressiveVAE(image_shape=(8, 8, 1), num_rungs=2, latent_dim=3, channels=4, dense=8)
        >>> model.grow(fade_in_steps=100)
        >>> model.stage, model.alpha
        (1, 0.0)

    Source: Li et al. (2020), sections 3.2 and 3.3.
    """

    gamma = LossWeight()

    def __init__(
        self,
        image_shape: Sequence[int],
        num_rungs: int,
        latent_dim: int | Sequence[int],
        beta: float | Sequence[float] = 1.0,
        gamma: float = 0.5,
        **kwargs: Any,
    ):
        super().__init__(image_shape, num_rungs, latent_dim, beta=beta, own_weights={"gamma": gamma}, **kwargs)

    @classmethod
    def preset_settings(cls, preset: str) -> dict:
        return presets.preset(preset)["model"]

    # === The two vectors; the rung at index i is unlocked at stage i ===

    def encoder_gates(self) -> Any:
        """1, but alpha for the newest rung: a locked rung's head sees h_l as it is."""
        return ops.where(self._rung_stages() == self._stage(), self._alpha(), 1.0)

    def decoder_gates(self) -> Any:
        """1 for grown rungs, alpha for the newest, 0 for locked ones."""
        return self.encoder_gates() * self.unlocked()

    def kl_weights(self) -> Any:
        """beta for unlocked rungs, gamma for locked ones (equations 8 and 10)."""
        return ops.where(self.unlocked() > 0.0, self.loss_weights["beta"], self.loss_weights["gamma"])
