"""Multi-scale supervision: while a ladder grows, every rung's map must show the image at the map's own size."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_provlae.ladder import DecoderLayers
from keras_provlae.models.growing_vae import GrowingVAE
from keras_provlae.models.ladder_vae import LIKELIHOODS
from keras_provlae.models.loss_weights import LossWeight
from keras_provlae.training import replicas


class SupervisedVAE(GrowingVAE):
    """A `GrowingVAE` whose maps are supervised at their own scale while it grows.

    In a training step, the map g_l of every unlocked rung is read out by a 1 x 1 convolution and compared with the
    image averaged down to the map's size (`multiscale` in the logs: nats, without the weight), so that a deep rung
    answers for what is seen at its scale. The weight falls linearly to 0 from the first unlock to the end of the last
    fade-in. The read-outs are saved with the model, and are no part of `decode`; validation leaves the term out.

    Args:
        *args: As `GrowingVAE`.
        **kwargs: As `GrowingVAE`; `own_weights` may have a `multiscale_weight`, without which there is no supervision.

    Source: Li et al. (2020), section 5, names multi-scale supervision as future work.
    """

    multiscale_weight = LossWeight()
    _has_maps = False  # whether the last loss had the term

    @property
    def needs_maps(self):
        return "multiscale_weight" in self.loss_weights.by_name

    def build(self, input_shape):
        super().build(input_shape)
        if self.needs_maps:
            self.further_trackers["multiscale"] = keras.metrics.Mean(name="multiscale")
            self.read_outs = read_outs(self.image_shape, self._decoder_layers)

    def further_weights(self):
        weights = super().further_weights()
        if self.needs_maps and self.num_rungs > 1:
            # alpha is 1 at stage 0
            grown = (ops.cast(self._stage(), "float32") - 1.0 + self._alpha()) / (self.num_rungs - 1)
            weights["multiscale"] = (1.0 - grown) * self.loss_weights["multiscale_weight"]
        elif self.needs_maps:
            weights["multiscale"] = 0.0  # a single rung has nothing to grow
        return weights

    def further_terms(self, images, y_pred):
        terms = super().further_terms(images, y_pred)
        self._has_maps = "maps" in y_pred
        if self._has_maps:
            nll = LIKELIHOODS[self.likelihood]
            nats = multiscale_nll(images, y_pred["maps"], self.read_outs, nll, self.unlocked())
            terms["multiscale"] = replicas.batch_mean(nats)
        return terms

    def get_metrics_result(self):
        """As Keras does; `multiscale` only in training."""
        logs = super().get_metrics_result()
        if not self._has_maps:
            logs.pop("multiscale", None)
        return logs


def read_outs(image_shape: Sequence[int], layers: DecoderLayers) -> list[keras.layers.Layer]:
    """Makes one 1 x 1 convolution per rung, deepest first, from a map g_l to logits of the image's channels.

    Args:
        image_shape: `(height, width, channels)`.
        layers: The layers of a decoder that a network has called.
    """
    convs = []
    for rung in layers.rungs:
        convs.append(keras.layers.Conv2D(image_shape[-1], 1, name=f"read_out_{rung.number}", dtype="float32"))
        convs[-1].build((rung.convs or (rung.gate,))[-1].output.shape)
    return convs


def averaged(images: Any, size: Sequence[int]) -> Any:
    """Averages images down to a size; where it does not divide theirs, border pixels are shared by their overlap.

    Args:
        images: Float tensor `(batch, height, width, channels)`.
        size: `(rows, columns)`, at most that of the images.

    Returns:
        Float tensor `(batch, rows, columns, channels)`.

    Example:
        >>> averaged(np.arange(4.0, dtype="float32").reshape(1, 2, 2, 1), (1, 1)).shape
        TensorShape([1, 1, 1, 1])
    """
    rows, columns = (_shares(old, new) for old, new in zip(images.shape[1:3], size, strict=True))
    return ops.einsum("rh,nhwc,sw->nrsc", ops.convert_to_tensor(rows), images, ops.convert_to_tensor(columns))


def multiscale_nll(
    images: Any, maps: Sequence[Any], layers: Sequence[keras.layers.Layer], nll: Callable, unlocked: Any
) -> Any:
    """Negative log likelihood of the images at the scale of every map, read out of the map.

    Every scale counts as the full image does: the sum over its pixels is multiplied by the pixels of the image over
    those of the map.

    Args:
        images: Float tensor `(batch, height, width, channels)` in [0, 1].
        maps: g_l `(batch, rows, columns, channels)` of the deepest rungs, deepest first.
        layers: What `read_outs` made.
        nll: Function of images and logits: nats `(batch,)`.
        unlocked: Float tensor `(num_rungs,)`: 1 for rungs to count.

    Returns:
        Float tensor `(batch,)`: nats, the mean over the unlocked rungs.
    """
    total, (height, width) = 0.0, images.shape[1:3]
    for index, g in enumerate(maps):
        size = g.shape[1:3]
        scale = height * width / (size[0] * size[1])
        total += unlocked[index] * scale * nll(averaged(images, size), layers[index](ops.cast(g, "float32")))
    return total / ops.sum(unlocked[: len(maps)])


def _shares(old, new):
    """Share of each old pixel in each new one: float32 `(new, old)`, rows sum to 1."""
    edges = np.linspace(0, old, new + 1)
    low, high = edges[:-1, None], edges[1:, None]
    pixels = np.arange(old)
    overlap = np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None)
    return (overlap / (old / new)).astype("float32")
