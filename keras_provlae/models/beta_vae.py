"""beta-VAE: a ladder with one rung, at the end of a plain trunk (the paper's baseline)."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_provlae.models.vlae import VLAE

PER_RUNG = ("head_convs", "head_dense", "map_dense", "decoder_convs", "decoder_affine")


@keras.saving.register_keras_serializable(package="keras_provlae")
class BetaVAE(VLAE):
    """A VLAE with one rung: one code, read at the end of the trunk.

    Args:
        image_shape: `(height, width, channels)` in pixels.
        latent_dim: Int >= 1. Width of the code.
        beta: Float >= 0. Weight of the KL term.
        stem: Channels of the stride-2 convolutions before the rung; by default two of
            32, so that the code is read at the level of the paper's rung 3.
        num_rungs: 1.
        **kwargs: `likelihood`, `name`, `dtype` and the architecture, as `LadderVAE`.

    Raises:
        ValueError: If a number is out of range or `num_rungs` is not 1.

    Example:
        >>> model = BetaVAE(image_shape=(8, 8, 1), latent_dim=9, beta=4.0, stem=(4,), channels=4, dense=8)
        >>> model.rung_slices
        [(1, slice(0, 9, None))]

    Source: Higgins et al. (2017); Li et al. (2020), section 4.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int,
        beta: float = 1.0,
        stem: Sequence[int] = (32, 32),
        num_rungs: int = 1,
        **kwargs: Any,
    ):
        if num_rungs != 1:
            raise ValueError(f"A beta-VAE has one rung; use VLAE for more. Received: num_rungs={num_rungs}.")
        super().__init__(image_shape, 1, latent_dim, beta=beta, stem=stem, **kwargs)

    @classmethod
    def preset_settings(cls, preset: str) -> dict:
        """Constructor arguments: the preset's trunk, with all of its latents in one code at the end."""
        settings = super().preset_settings(preset)
        return {**end_of_trunk(settings), "latent_dim": settings["num_rungs"] * settings["latent_dim"]}


def end_of_trunk(settings: dict) -> dict:
    """Keeps only the trunk and the deepest rung of a ladder's settings; `num_rungs` is left out."""
    settings = dict(settings)
    rungs, channels = settings.pop("num_rungs"), settings.pop("channels")
    if isinstance(channels, int):
        channels = (channels,) * rungs
    deepest = {name: settings[name][-1:] for name in PER_RUNG if name in settings}
    return {**settings, **deepest, "stem": channels[:-1], "channels": channels[-1]}
