"""Transposed convolutions of a training step, as convolutions where those are faster, and with an affine folded in.

The logits as a convolution gain 7 % of the processor time of a step at 28 x 28 on TensorFlow on a CPU, 3 % at 64 x 64
(`benchmarks/acceleration.py`); on JAX on a CPU, convolutions make a step at 64 x 64 four times as fast.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_provlae.acceleration.fused_affine import tensorflow_on_cpu
from keras_provlae.layers import ChannelAffine


def transposed(conv: keras.layers.Conv2DTranspose, g: Any, affine: ChannelAffine | None = None) -> Any:
    """`conv(affine(g))`, or `conv([0; g])` where g has fewer channels than the kernel.

    The scale of the affine goes into the kernel, which is a hundred times smaller than the map, and its offset into a
    bias per position (at the border fewer taps meet it).

    Args:
        conv: A built `Conv2DTranspose`.
        g: Float tensor `(batch, height, width, channels)`.
        affine: The `ChannelAffine` before it, or `None`.

    Returns:
        Float tensor `(batch, new_height, new_width, filters)`.
    """
    return InPolicyOf(conv, lambda g: _transposed(conv, g, affine))(g)


class InPolicyOf(keras.layers.Layer):
    """Calls a function in the dtype policy of a layer: variables that it reads are cast as the layer casts them.

    Args:
        layer: A Keras layer.
        function: A function of one tensor, which is cast as the input of the layer.
    """

    def __init__(self, layer: keras.layers.Layer, function: Callable):
        super().__init__(dtype=layer.dtype_policy)
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x)


def _transposed(conv, g, affine):
    kernel, bias = conv.kernel[..., -g.shape[-1] :], conv.bias
    doubles = (conv.kernel_size, conv.strides, conv.padding, conv.output_padding) == ((4, 4), (2, 2), "same", None)
    as_convolution = doubles and transposes_slowly()

    def apply(g, kernel):
        if as_convolution:
            return doubled(g, kernel)
        strides, padding = list(conv.strides), conv.padding
        return ops.conv_transpose(g, kernel, strides, padding, conv.output_padding, data_format=conv.data_format)

    if affine is not None:
        bias = bias + apply(ops.broadcast_to(ops.cast(affine.offset, g.dtype), (1, *g.shape[1:])), kernel)
        kernel = kernel * ops.cast(affine.scale, g.dtype)
    forward = _doubled_forward if doubles and conv.filters <= 4 and tensorflow_on_cpu() else apply
    return conv.activation(ops.add(forward(g, kernel), bias))


def transposes_slowly() -> bool:
    """Returns whether transposed convolutions are many times slower than convolutions: on JAX on a CPU."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"


# Which of the four taps of a transposed kernel meets which of three neighbors: for an even position of the output, and
# for an odd one; then the same in two dimensions, (3 * 3 * 2 * 2, 4 * 4).
_TAPS = np.array([[[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]], "float32")
_TAPS = np.einsum("pik,qjl->ijpqkl", _TAPS, _TAPS).reshape(36, 16)


def doubled(g: Any, kernel: Any) -> Any:
    """A transposed convolution of stride 2, padding "same" and 4 x 4 taps, as a convolution with 3 x 3 taps.

    The four output positions of each input position are four groups of channels, which depth-to-space then puts in
    place (Shi et al., 2016, "Is the deconvolution layer the same as a convolutional layer?").

    Args:
        g: Float tensor `(batch, height, width, channels)`.
        kernel: Float tensor `(4, 4, filters, channels)`.

    Returns:
        Float tensor `(batch, 2 * height, 2 * width, filters)`.

    Example:
        >>> doubled(np.ones((1, 3, 5, 2), "float32"), np.ones((4, 4, 7, 2), "float32")).shape == (1, 6, 10, 7)
        True
    """
    *_, filters, channels = kernel.shape
    taps = ops.matmul(ops.cast(_TAPS, kernel.dtype), ops.reshape(kernel, (16, filters * channels)))
    taps = ops.transpose(ops.reshape(taps, (3, 3, 4 * filters, channels)), (0, 1, 3, 2))
    groups = ops.conv(g, taps, padding="same", data_format="channels_last")
    return ops.depth_to_space(groups, 2, data_format="channels_last")


def _doubled_forward(g, kernel):
    """As `doubled`, with the gradients of a transposed convolution, which are fast."""
    import tensorflow as tf

    @tf.custom_gradient
    def forward(g, kernel):
        def backward(upstream):
            of_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=upstream, filter_sizes=kernel.shape, out_backprop=g, strides=(1, 2, 2, 1), padding="SAME"
            )
            return tf.nn.conv2d(upstream, kernel, 2, "SAME"), of_kernel

        return doubled(g, kernel), backward

    return forward(g, kernel)
