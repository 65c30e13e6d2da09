"""Contour supervision: what the shallow rungs add must by itself show where the image has contours.

A new rung first learns what lowers the loss at once: its code times one pattern of colors. Whether more of that
pattern helps depends on the colors of the image, so such a code means the opposite in half of the contexts
("flipped"; see `metrics.context_effects`). A contour is a contour in any color. A rung that has to show the contours,
without the maps of the deepest rung, cannot use a code whose sign depends on what that rung holds.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_provlae.ladder import DecoderLayers
from keras_provlae.losses import bernoulli_nll

CONTRAST = 0.1  # change from pixel to pixel, root mean square over the channels, that counts as half a contour


def contours(images: Any) -> Any:
    """Contour maps: 0 where neighboring pixels are equal, near 1 where they differ by much more than `CONTRAST`.

    Args:
        images: Float tensor `(batch, height, width, channels)` in [0, 1].

    Returns:
        Float tensor `(batch, height, width, 1)`: d / (d + CONTRAST^2), where d is the squared change to the pixel below
        plus that to the pixel on the right, averaged over the channels.

    Example:
        >>> step = ops.reshape(ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]), (1, 1, 4, 1))
        >>> ops.convert_to_numpy(contours(step)).ravel().round(2)
        array([0.  , 0.99, 0.  , 0.  ], dtype=float32)
    """
    down, right = images[:, 1:] - images[:, :-1], images[:, :, 1:] - images[:, :, :-1]
    down = ops.pad(down, ((0, 0), (0, 1), (0, 0), (0, 0)))
    right = ops.pad(right, ((0, 0), (0, 0), (0, 1), (0, 0)))
    change = ops.mean(ops.square(down) + ops.square(right), axis=-1, keepdims=True)
    return change / (change + CONTRAST**2)


def contour_read_outs(image_shape: Sequence[int], layers: DecoderLayers) -> list[keras.layers.Layer]:
    """Makes one 1 x 1 convolution per rung but the deepest, from a map m_l to a block of contour logits per place.

    Args:
        image_shape: `(height, width, channels)`.
        layers: The layers of a decoder that a network has called.
    """
    read_outs = []
    for rung in layers.rungs[1:]:
        shape = rung.gate.output.shape
        rows, columns = _block(image_shape, shape)
        read_outs.append(keras.layers.Conv2D(rows * columns, 1, name=f"contours_{rung.number}", dtype="float32"))
        read_outs[-1].build(shape)
    return read_outs


def contour_nll(images: Any, maps: Sequence[Any], layers: Sequence[keras.layers.Layer], unlocked: Any) -> Any:
    """Negative log likelihood of the contours, read out of the maps m_l of all rungs but the deepest.

    The logits of the rungs are added: a shallower rung has to show only what the deeper ones do not.

    Args:
        images: Float tensor `(batch, height, width, channels)` in [0, 1].
        maps: `gate_l * m_l`, each `(batch, rows, columns, channels)`, of the rungs L - 1, L - 2, ..
        layers: What `contour_read_outs` made.
        unlocked: Float tensor `(num_rungs - 1,)`: 1 for rungs to count.

    Returns:
        Float tensor `(batch,)`: nats; 0 while all these rungs are locked.
    """
    shape, logits = images.shape[1:], 0.0
    for index, m in enumerate(maps):
        shown = _in_blocks(layers[index](ops.cast(m, "float32")), _block(shape, m.shape))
        logits += unlocked[index] * shown[:, : shape[0], : shape[1]]
    return unlocked[0] * bernoulli_nll(contours(images), logits) if maps else ops.zeros_like(images[:, 0, 0, 0])


def _block(image_shape, map_shape):
    """Rows and columns of the image for one place of a map, rounded up."""
    return tuple(math.ceil(n / m) for n, m in zip(image_shape[:2], map_shape[1:3], strict=True))


def _in_blocks(maps, block):
    """From `(batch, h, w, rows * columns)` to `(batch, h * rows, w * columns, 1)`: every place becomes a block."""
    height, width = maps.shape[1:3]
    blocks = ops.reshape(maps, (-1, height, width, *block))
    return ops.reshape(ops.transpose(blocks, (0, 1, 3, 2, 4)), (-1, height * block[0], width * block[1], 1))
