"""What a training step computes of a ladder while it grows: nothing of the decoder's locked rungs.

A locked rung enters the decoder with the gate 0, so its map m_l(z_l) adds nothing to `g_l = f_l^d([0; g_{l+1}])`:
the decoder of a stage leaves out both m_l and the part of f_l^d's kernel that would meet it. In the encoder the gate
multiplies the kernel that h_l meets and not h_l, which is a hundred times as large. On JAX on a CPU, transposed
convolutions are computed as convolutions. Both networks share every layer with those that they stand for, and their
results are the same up to rounding.
"""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_provlae.layers import Gate


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
        self._made = {} if transposes_slowly() else {num_rungs - 1: (decoder, [])}

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

    def call(layer, *args, **kwargs):
        if layer.name in joints:
            return args[0][1]  # g_{l+1} alone
        if layer.name in after_joints or (are_slow and isinstance(layer, keras.layers.Conv2DTranspose)):
            return _TransposedOfStep(layer, are_slow)(*args)
        return layer(*args, **kwargs)

    return keras.models.clone_model(decoder, clone_function=lambda layer: layer, call_function=call)


def step_encoder(encoder: keras.Model) -> keras.Model:
    """The encoder with every gate in the kernel of the convolution that sees `gate_l * h_l`: it is linear in both.

    Args:
        encoder: The encoder, as `ladder.build_encoder` makes it.

    Returns:
        A functional model with the inputs, the outputs and the layers of `encoder`. A head without a convolution is
        as it was there.

    Example:
        >>> from keras_provlae.ladder import build_encoder, ladder_spec
        >>> encoder = build_encoder(ladder_spec((28, 28, 1), num_rungs=2, latent_dim=3))
        >>> sorted({layer.name for layer in encoder.layers} - {layer.name for layer in step_encoder(encoder).layers})
        ['gated_h_1', 'gated_h_2', 'head_1_conv_1', 'head_2_conv_1']

    Source: Li et al. (2020), equations 4 and 9.
    """
    names = {layer.name for layer in encoder.layers}
    gates = {}  # of the first convolution of a head

    def call(layer, *args, **kwargs):
        if isinstance(layer, Gate):
            conv = f"{layer.name.replace('gated_h', 'head')}_conv_1"
            if conv in names:
                features, gates[conv] = args[0], (layer, args[1])
                return features
        if layer.name in gates:
            gate, values = gates[layer.name]
            return _WithGate(layer, gate.index)(args[0], values)
        return layer(*args, **kwargs)

    return keras.models.clone_model(encoder, clone_function=lambda layer: layer, call_function=call)


class _WithGate(keras.layers.Layer):
    """A convolution over `gate * h`, with the gate in its kernel."""

    def __init__(self, conv: keras.layers.Conv2D, index: int):
        super().__init__(name=f"{conv.name}_of_gate", dtype=conv.dtype_policy)
        self.conv, self.index = conv, index

    def call(self, h: Any, gates: Any) -> Any:
        conv = self.conv
        kernel = conv.kernel * ops.cast(gates[self.index], conv.kernel.dtype)
        h = ops.conv(h, kernel, list(conv.strides), conv.padding, data_format=conv.data_format)
        return conv.activation(ops.add(h, conv.bias))

    def compute_output_spec(self, h, gates):
        return self.conv.compute_output_spec(h)


def transposes_slowly() -> bool:
    """Whether a transposed convolution is many times slower than the same as a convolution: on JAX on a CPU."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"


class _TransposedOfStep(keras.layers.Layer):
    """A transposed convolution in a training step: of [m; g] it may be given g alone, where m is 0.

    It takes the part of its kernel that belongs to what it is given.
    """

    def __init__(self, conv: keras.layers.Conv2DTranspose, as_convolution: bool):
        super().__init__(name=f"{conv.name}_of_step", dtype=conv.dtype_policy)
        self.conv = conv
        doubles = (conv.kernel_size, conv.strides, conv.padding, conv.output_padding) == ((4, 4), (2, 2), "same", None)
        self.as_convolution = as_convolution and doubles

    def call(self, g: Any) -> Any:
        conv = self.conv
        kernel = conv.kernel[..., -g.shape[-1] :]
        if self.as_convolution:
            g = doubled(g, kernel)
        else:
            g = ops.conv_transpose(
                g, kernel, list(conv.strides), conv.padding, conv.output_padding, data_format=conv.data_format
            )
        return conv.activation(ops.add(g, conv.bias))

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)


# Which of the four taps of a transposed kernel meets which of three neighbours: for an even place of the output, and
# for an odd one.
_TAPS = np.array([[[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]], "float32")


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
    taps = ops.cast(_TAPS, kernel.dtype)
    kernel = ops.einsum("pik,qjl,klfc->ijcpqf", taps, taps, kernel)
    *_, channels, _, _, filters = kernel.shape
    _, height, width, _ = g.shape
    groups = ops.conv(
        g, ops.reshape(kernel, (3, 3, channels, 4 * filters)), padding="same", data_format="channels_last"
    )
    places = ops.reshape(groups, (-1, height, width, 2, 2, filters))
    return ops.reshape(ops.transpose(places, (0, 1, 3, 2, 4, 5)), (-1, 2 * height, 2 * width, filters))
