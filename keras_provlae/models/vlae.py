"""The variational ladder autoencoder: all rungs from the first step (the paper's baseline)."""

from typing import Any

import keras
from keras import ops

from keras_provlae.models.ladder_vae import LadderVAE


@keras.saving.register_keras_serializable(package="keras_provlae")
class VLAE(LadderVAE):
    """A ladder VAE that trains all of its rungs at once: all gates 1, all KL weights beta.

    Args:
        *args: As `LadderVAE`.
        **kwargs: As `LadderVAE`.

    Example:
        >>> model = VLAE(image_shape=(8, 8, 1), num_rungs=2, latent_dim=3, channels=4, dense=8)
        >>> tuple(model.sample(2, seed=0).shape)
        (2, 8, 8, 1)

    Source: Zhao et al. (2017); Li et al. (2020), equation 3.
    """

    def encoder_gates(self) -> Any:
        return ops.ones(self.num_rungs, "float32")

    def decoder_gates(self) -> Any:
        return ops.ones(self.num_rungs, "float32")

    def kl_weights(self) -> Any:
        return self.loss_weights["beta"]
