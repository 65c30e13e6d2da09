"""Multi-scale supervision: while a ladder grows, every rung's map must show the image at the map's own size."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_provlae.ladder import DecoderLayers


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
