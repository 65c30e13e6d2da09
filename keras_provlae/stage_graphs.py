"""What a training step computes of a ladder while it grows: nothing of the decoder's locked rungs.

A locked rung enters the decoder with the gate 0, so its map m_l(z_l) adds nothing to `g_l = f_l^d([0; g_{l+1}])`:
the decoder of a stage leaves out both m_l and the part of f_l^d's kernel that would meet it. What is linear goes into
kernels, which are a hundred times smaller than maps: the gates of the encoder, and the last affine of the decoder.
Two convolutions over the same map are one, and a transposed one is computed as a convolution where that is faster.
Both networks share every layer with those that they stand for, and their results are the same up to rounding.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_provlae.layers import ChannelAffine, tensorflow_on_cpu


class StageGraphs:
    """The networks of the stages, made when they are needed; no Keras layer: a model neither tracks nor saves it.

    Args:
        encoder: The encoder, as `ladder.build_encoder` makes it.
        decoder: The whole decoder, as `ladder.build_decoder` makes it.
        num_rungs: Int. Rungs of the decoder that can be locked, and their number L.
    """

    def __init__(self, encoder: keras.Model, decoder: keras.Model, num_rungs: int):
        self.whole_encoder, self.decoder, self.num_rungs = encoder, decoder, num_rungs
        self.stage = num_rungs - 1  # what the training step is made for
        self.is_guarded = self.test_is_guarded = False  # or for a `fit` whose callback sees to losses not finite
        self.in_step = False
        self._made = {}

    @functools.cached_property
    def encoder(self) -> keras.Model:
        """The encoder of a training step, the same in every stage."""
        return step_encoder(self.whole_encoder)

    @property
    def of_stage(self) -> keras.Model:
        """The decoder of the stage that the training step is made for."""
        return self._of_stage()[0]

    @property
    def unused(self) -> list[keras.Variable]:
        """The trainable variables that it leaves out."""
        return self._of_stage()[1]

    def _of_stage(self):
        """Made once: an eager step asks every time."""
        if self.stage not in self._made:
            decoder = stage_decoder(self.decoder, self.num_rungs, self.stage)
            used = {id(variable) for variable in decoder.trainable_variables}
            unused = [variable for variable in self.decoder.trainable_variables if id(variable) not in used]
            self._made[self.stage] = decoder, unused
        return self._made[self.stage]


def stage_decoder(decoder: keras.Model, num_rungs: int, stage: int) -> keras.Model:
    """The decoder of one stage: that of the rungs L .. L - stage alone, with the layers of the whole one.

    Args:
        decoder: The whole decoder, as `ladder.build_decoder` makes it.
        num_rungs: Int L.
        stage: Int 0 .. L - 1.

    Returns:
        A functional model with the inputs and outputs of `decoder`.

    Example:
        >>> from keras_provlae.ladder import build_decoder, ladder_spec
        >>> decoder = build_decoder(ladder_spec((28, 28, 1), num_rungs=2, latent_dim=3))
        >>> len(decoder.weights) - len(stage_decoder(decoder, num_rungs=2, stage=0).weights)
        8

    Source: Li et al. (2020), equations 7 and 9 with alpha = 0.
    """
    locked = range(1, num_rungs - stage)
    joints = {f"m_and_g_{rung}" for rung in locked}
    after_joints = {f"g_{rung}_conv_1" for rung in locked}
    are_slow = transposes_slowly()
    before, logits = next(pair for pair in itertools.pairwise(decoder.layers) if pair[1].name == "logits")
    affine = before if isinstance(before, ChannelAffine) else None

    def call(layer, *args, **kwargs):
        if layer.name in joints:
            return args[0][1]  # g_{l+1} alone
        if layer is affine:
            return args[0]
        if layer is logits:
            return _TransposedOfStep(layer, affine)(*args)
        if layer.name in after_joints or (are_slow and isinstance(layer, keras.layers.Conv2DTranspose)):
            return _TransposedOfStep(layer)(*args)
        return layer(*args, **kwargs)

    return keras.models.clone_model(decoder, clone_function=lambda layer: layer, call_function=call)


def step_encoder(encoder: keras.Model) -> keras.Model:
    """The encoder with one convolution for h_{l+1} and the head of rung l, which both see h_l.

    A gate is in the kernel of the convolution that sees `gate_l * h_l`: it is linear in both.

    Args:
        encoder: The encoder, as `ladder.build_encoder` makes it.

    Returns:
        A functional model with the inputs, the outputs and the layers of `encoder`. A head without a convolution is
        as it was there.

    Example:
        >>> from keras_provlae.ladder import build_encoder, ladder_spec
        >>> encoder = build_encoder(ladder_spec((28, 28, 1), num_rungs=2, latent_dim=3))
        >>> sorted({layer.name for layer in encoder.layers} - {layer.name for layer in step_encoder(encoder).layers})
        ['gated_h_1', 'gated_h_2', 'h_2', 'head_1_conv_1', 'head_2_conv_1']

    Source: Li et al. (2020), equations 4 and 9.
    """
    images, gates = (keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name) for x in encoder.inputs)
    layers = {layer.name: layer for layer in encoder.layers}
    in_kernels, together, computed = set(), {}, {}  # names of gates and of convolutions
    for name in [name for name in layers if name.startswith("gated_h_")]:
        rung = int(name.removeprefix("gated_h_"))
        head, deeper = layers.get(f"head_{rung}_conv_1"), layers.get(f"h_{rung + 1}")
        if head is not None:
            in_kernels.add(name)
            convs = (deeper, head) if deeper is not None and _are_alike(deeper, head) else (head,)
            together |= dict.fromkeys((conv.name for conv in convs), _ConvolutionsOfStep(convs, layers[name].index))

    def call(layer, *args, **kwargs):
        if layer.name in in_kernels:
            return args[0]
        if layer.name not in together:
            return layer(*args, **kwargs)
        if layer.name not in computed:
            both = together[layer.name]
            computed.update(zip((conv.name for conv in both.convs), both(args[0], gates), strict=True))
        return computed[layer.name]

    return keras.models.clone_model(encoder, [images, gates], clone_function=lambda layer: layer, call_function=call)


def _are_alike(one, other):
    """Whether two convolutions of the same maps can be one: all but the number of filters is the same."""
    facts = ("kernel_size", "strides", "padding", "activation", "dtype_policy", "data_format")
    return all(getattr(one, fact) == getattr(other, fact) for fact in facts)


class _ConvolutionsOfStep(keras.layers.Layer):
    """Convolutions over h, computed as one; the last is over `gate * h`, with the gate in its kernel."""

    def __init__(self, convs: Sequence[keras.layers.Conv2D], index: int):
        super().__init__(name=f"{convs[-1].name}_of_step", dtype=convs[-1].dtype_policy)
        self.convs, self.index = list(convs), index

    def call(self, h: Any, gates: Any) -> list[Any]:
        *others, last = self.convs
        kernels = [conv.kernel for conv in others] + [last.kernel * ops.cast(gates[self.index], last.kernel.dtype)]
        h = ops.conv(h, _joined(kernels), list(last.strides), last.padding, data_format=last.data_format)
        h = last.activation(ops.add(h, _joined([conv.bias for conv in self.convs])))
        return ops.split(h, [conv.filters for conv in others], axis=-1) if others else [h]

    def compute_output_spec(self, h, gates):
        return [conv.compute_output_spec(h) for conv in self.convs]


def _joined(tensors):
    return ops.concatenate(tensors, axis=-1) if len(tensors) > 1 else tensors[0]


def transposes_slowly() -> bool:
    """Whether a transposed convolution is many times slower than the same as a convolution: on JAX on a CPU."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"


class _TransposedOfStep(keras.layers.Layer):
    """A transposed convolution in a training step: of [m; g] it may be given g alone, where m is 0.

    It takes the part of its kernel that belongs to what it is given. With the `ChannelAffine` before it, that has
    its scale in this kernel and its offset in a bias for every place: at the border fewer taps meet it.
    """

    def __init__(self, conv: keras.layers.Conv2DTranspose, affine: ChannelAffine | None = None):
        super().__init__(name=f"{conv.name}_of_step", dtype=conv.dtype_policy)
        self.conv, self.affine = conv, affine
        doubles = (conv.kernel_size, conv.strides, conv.padding, conv.output_padding) == ((4, 4), (2, 2), "same", None)
        self.as_convolution = doubles and transposes_slowly()
        self.forward_as_convolution = doubles and conv.filters <= 4 and tensorflow_on_cpu()

    def call(self, g: Any) -> Any:
        kernel, bias = self.conv.kernel[..., -g.shape[-1] :], self.conv.bias
        if self.affine is not None:
            offset = ops.cast(self.affine.offset, kernel.dtype)
            bias = bias + self._transposed(ops.broadcast_to(offset, (1, *g.shape[1:])), kernel)
            kernel = kernel * ops.cast(self.affine.scale, kernel.dtype)
        g = _doubled_forward(g, kernel) if self.forward_as_convolution else self._transposed(g, kernel)
        return self.conv.activation(ops.add(g, bias))

    def _transposed(self, g, kernel):
        if self.as_convolution:
            return doubled(g, kernel)
        conv = self.conv
        return ops.conv_transpose(
            g, kernel, list(conv.strides), conv.padding, conv.output_padding, data_format=conv.data_format
        )

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)


# Which of the four taps of a transposed kernel meets which of three neighbours: for an even place of the output, and
# for an odd one; then the same in two dimensions, (3 * 3 * 2 * 2, 4 * 4).
_TAPS = np.array([[[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]], "float32")
_TAPS = np.einsum("pik,qjl->ijpqkl", _TAPS, _TAPS).reshape(36, 16)


def doubled(g: Any, kernel: Any) -> Any:
    """A transposed convolution of stride 2, padding "same" and 4 x 4 taps, as a convolution with 3 x 3.

    The four places of the output that belong to one of the input are four groups of channels, brought to their places
    afterwards (Shi et al., 2016, "Is the deconvolution layer the same as a convolutional layer?").

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
    """As `doubled`, with the gradients of a transposed convolution, which are as quick as those of any."""
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
