"""The ladder: the layers of an encoder and a decoder, made once, and the two functions that wire them.

The encoder climbs: `h_l = f_l^e(h_{l-1})` halves the image once per rung, and the head of rung l reads its posterior
off `gate_l * h_l` (equations 4, 6, 9). The decoder comes back down: `g_l = f_l^d([gate_l * m_l(z_l); g_{l+1}])` doubles
the map again (equations 5, 7, 9). A stage of growth is an argument of `decode`: the rungs that it computes.

Per-rung settings are ordered l = 1 .. L, shallowest first, as h_1 .. h_L are. Codes, posteriors and gates are ordered
deepest first, z_L .. z_1, as the model grows.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers as kl
from keras import ops

from keras_provlae.architecture import LadderSpec, ladder_spec  # noqa: F401 (part of this module's interface)
from keras_provlae.layers import ChannelAffine, Gate

# every convolution of the authors' networks
_CONV = {"kernel_size": 4, "padding": "same", "data_format": "channels_last"}


# === The layers ===
# Dataclasses, so that Keras neither tracks nor saves the layers a second time: the networks below own them.


@dataclass(frozen=True)
class EncoderRung:
    """The layers of one rung of the encoder."""

    trunk: tuple  # f_l^e, from h_{l-1} to h_l
    gate: Gate
    head: tuple  # the hidden layers between gate_l * h_l and the posterior
    mean: keras.layers.Layer
    log_var: keras.layers.Layer


@dataclass(frozen=True)
class EncoderLayers:
    """The layers of an encoder, in the order in which images pass them."""

    stem: tuple
    rungs: tuple[EncoderRung, ...]  # l = 1 .. L


@dataclass(frozen=True)
class DecoderRung:
    """The layers of one rung of the decoder."""

    number: int  # l
    width: int  # of z_l
    map: tuple  # m_l
    gate: Gate
    convs: tuple  # f_l^d, from [gate_l * m_l(z_l); g_{l+1}] to g_l


@dataclass(frozen=True)
class DecoderLayers:
    """The layers of a decoder, in the order in which codes pass them."""

    rungs: tuple[DecoderRung, ...]  # l = L .. 1
    stem: tuple  # from g_1 to the image
    logits: tuple


def encoder_layers(spec: LadderSpec, dtype: Any = None) -> EncoderLayers:
    """Makes the layers of the encoder.

    Args:
        spec: A `LadderSpec`.
        dtype: Dtype policy of the layers; the posterior is float32 under any.
    """

    def conv(width, stride, level, name, policy=dtype):
        if 1 in spec.size(level):
            policy = "float32"  # oneDNN's bfloat16 filter gradient reads stray memory where a map is one pixel wide
        layer = kl.Conv2D(width, strides=stride, activation=spec.activation, name=name, dtype=policy, **_CONV)
        return [layer, ChannelAffine(name=f"{name}_affine", dtype=policy)]

    stem = []
    for index, width in enumerate(spec.stem):
        stem += conv(width, 2, index, f"stem_{index + 1}")
    rungs = []
    for rung in range(1, spec.num_rungs + 1):
        trunk = conv(spec.channels[rung - 1], 2, spec.level(rung) - 1, f"h_{rung}")
        gate = Gate(spec.num_rungs - rung, name=f"gated_h_{rung}", dtype=dtype)
        head, level = [], spec.level(rung)
        for index, (width, stride) in enumerate(spec.head_convs[rung - 1], start=1):
            head += conv(width, stride, level, f"head_{rung}_conv_{index}")
            level += stride == 2
        head += [kl.Flatten(name=f"head_{rung}_flatten", data_format="channels_last", dtype=dtype)]
        for index, width in enumerate(spec.head_dense[rung - 1], start=1):
            head += _dense(width, f"head_{rung}_dense_{index}", spec, dtype)
        width = spec.latent_dim[rung - 1]
        mean, log_var = (kl.Dense(width, name=f"{name}_{rung}", dtype="float32") for name in ("mean", "log_var"))
        rungs.append(EncoderRung(tuple(trunk), gate, tuple(head), mean, log_var))
    return EncoderLayers(tuple(stem), tuple(rungs))


def decoder_layers(spec: LadderSpec, dtype: Any = None) -> DecoderLayers:
    """Makes the layers of the decoder.

    Args:
        spec: A `LadderSpec`.
        dtype: Dtype policy of the layers; the logits are float32 under any.
    """

    def transposed(width, stride, level, name, affine=True):
        """From the size at a level to that at the next one up (or the same, without a stride)."""
        layers = _conv_to_size(width, stride, spec.size(level), spec.size(level - (stride == 2)), name, dtype, spec)
        return [*layers, ChannelAffine(name=f"{name}_affine", dtype=dtype)] if affine else layers

    rungs, channels = [], spec.channels[-1]  # of g_{l+1}, or of the map that starts the decoder
    for rung in range(spec.num_rungs, 0, -1):
        affine, level = spec.decoder_affine[rung - 1], spec.decoder_start(rung)
        maps = []
        for index, width in enumerate(spec.map_dense[rung - 1], start=1):
            maps += _dense(width, f"m_{rung}_dense_{index}", spec, dtype, affine)
        shape = (*spec.size(level), channels)
        maps += _dense(shape[0] * shape[1] * shape[2], f"m_{rung}", spec, dtype, affine)
        maps += [kl.Reshape(shape, name=f"m_{rung}_map", dtype=dtype)]
        gate = Gate(spec.num_rungs - rung, name=f"gated_m_{rung}", dtype=dtype)
        convs = []
        for index, (width, stride) in enumerate(spec.decoder_convs[rung - 1], start=1):
            convs += transposed(width, stride, level, f"g_{rung}_conv_{index}", affine)
            level, channels = level - (stride == 2), width
        rungs.append(DecoderRung(rung, spec.latent_dim[rung - 1], tuple(maps), gate, tuple(convs)))
    stem = []
    for index in range(len(spec.stem), 0, -1):
        stem += transposed(spec.stem[index - 1], 2, index + 1, f"stem_{index}")
    logits = _conv_to_size(spec.image_shape[-1], 2, spec.size(1), spec.size(0), "logits", "float32")
    return DecoderLayers(tuple(rungs), tuple(stem), tuple(logits))


def _dense(width, name, spec, dtype, affine=True):
    layer = kl.Dense(width, activation=spec.activation, name=name, dtype=dtype)
    return [layer, ChannelAffine(name=f"{name}_affine", dtype=dtype)] if affine else [layer]


def _conv_to_size(width, stride, size, wanted, name, dtype, spec=None):
    """A transposed convolution whose map has a given size: `stride` times the old one, or a row or column less."""
    if size == wanted:  # from one place to one, where oneDNN's bfloat16 gradient of stride 2 is uninitialized in part
        stride = 1
    settings = {**_CONV, "strides": stride, "activation": spec and spec.activation}
    if all(stride * n - 1 == m for n, m in zip(size, wanted, strict=True)):
        return [kl.Conv2DTranspose(width, name=name, dtype=dtype, output_padding=1, **settings)]
    conv = kl.Conv2DTranspose(width, name=name, dtype=dtype, **settings)
    rows, columns = (stride * n - m for n, m in zip(size, wanted, strict=True))
    if rows == columns == 0:
        return [conv]
    return [conv, kl.Cropping2D(((0, rows), (0, columns)), data_format="channels_last", dtype=dtype)]


# === The wiring ===


def encode(layers: EncoderLayers, images: Any, gates: Any) -> tuple[Any, Any]:
    """The posterior of every rung.

    Args:
        layers: What `encoder_layers` made.
        images: Float tensor `(batch, height, width, channels)` in [0, 1].
        gates: Float32 tensor `(num_rungs,)`, deepest rung first.

    Returns:
        `(mean, log_var)`: float32 tensors `(batch, sum of latent_dim)`, the deepest rung's columns first.

    Source: Li et al. (2020), equations 4, 6 and 9.
    """
    h = in_turn(layers.stem, images)
    means: list[Any] = []
    log_vars: list[Any] = []
    for rung in layers.rungs:
        h = in_turn(rung.trunk, h)
        features = in_turn(rung.head, rung.gate(h, gates))
        means.insert(0, rung.mean(features))
        log_vars.insert(0, rung.log_var(features))
    return joined(means), joined(log_vars)


def decode(
    layers: DecoderLayers, codes: Any, gates: Any, rungs: Sequence[int] | None = None, maps: list | None = None
) -> Any:
    """The image, as one logit per pixel and channel.

    Args:
        layers: What `decoder_layers` made.
        codes: Float32 tensor `(batch, sum of latent_dim)`, the deepest rung's columns first.
        gates: Float32 tensor `(num_rungs,)`, deepest rung first.
        rungs: The rungs to compute, L among them; `None` for all. The others must have the gate 0: their maps m_l
            would add nothing, so they are left out.
        maps: `None`, or a list to which `(gate_l * m_l, g_l)` of every computed rung is appended, deepest first.

    Returns:
        Float32 tensor `(batch, height, width, channels)`.

    Source: Li et al. (2020), equations 5, 7 and 9.
    """
    g = None
    for rung, z in zip(layers.rungs, codes_of_rungs(layers, codes), strict=True):
        if rungs is None or rung.number in rungs:
            m = rung.gate(in_turn(rung.map, z), gates)
            g = in_turn(rung.convs, m if g is None else joined([m, g]))
            if maps is not None:
                maps.append((m, g))
        else:
            conv, *others = rung.convs
            g = in_turn(others, on_part(conv, g))
    return in_turn(layers.logits, in_turn(layers.stem, g))


def codes_of_rungs(layers: DecoderLayers, codes: Any) -> list[Any]:
    """The columns of each rung, z_L .. z_1."""
    ends = list(itertools.accumulate(rung.width for rung in layers.rungs))
    return ops.split(codes, ends[:-1], axis=-1) if len(ends) > 1 else [codes]


def in_turn(layers: Iterable[keras.layers.Layer], x: Any) -> Any:
    """Passes a tensor through layers, one after the other."""
    for layer in layers:
        x = layer(x)
    return x


def joined(tensors: Sequence[Any]) -> Any:
    """Tensors side by side, along their last axis."""
    return ops.concatenate(tensors, axis=-1) if len(tensors) > 1 else tensors[0]


def on_part(conv: keras.layers.Conv2DTranspose, g: Any) -> Any:
    """A transposed convolution of [0; g], without the part of its kernel that would meet the zeros."""
    g = ops.cast(g, conv.compute_dtype)
    kernel = ops.cast(conv.kernel[..., -g.shape[-1] :], g.dtype)
    strides, padding = list(conv.strides), conv.padding
    maps = ops.conv_transpose(g, kernel, strides, padding, conv.output_padding, data_format=conv.data_format)
    return conv.activation(maps + ops.cast(conv.bias, g.dtype))


# === The networks ===


def encoder_network(spec: LadderSpec, layers: EncoderLayers) -> keras.Model:
    """The encoder as a functional model, from `[images, gates]` to `[mean, log_var]`.

    Example:
        >>> spec = ladder_spec((28, 28, 1), num_rungs=2, latent_dim=3)
        >>> encoder = encoder_network(spec, encoder_layers(spec))
        >>> [tuple(output.shape) for output in encoder.outputs]
        [(None, 6), (None, 6)]
    """
    images = keras.Input(spec.image_shape, name="images")
    gates = keras.Input(batch_shape=(spec.num_rungs,), dtype="float32", name="gates")
    return keras.Model([images, gates], list(encode(layers, images, gates)), name="encoder")


def decoder_network(spec: LadderSpec, layers: DecoderLayers) -> keras.Model:
    """The decoder as a functional model, from `[codes, gates]` to logits.

    Example:
        >>> spec = ladder_spec((28, 28, 1), num_rungs=2, latent_dim=3)
        >>> decoder_network(spec, decoder_layers(spec)).output_shape
        (None, 28, 28, 1)
    """
    codes = keras.Input((sum(spec.latent_dim),), dtype="float32", name="codes")
    gates = keras.Input(batch_shape=(spec.num_rungs,), dtype="float32", name="gates")
    return keras.Model([codes, gates], decode(layers, codes, gates), name="decoder")
