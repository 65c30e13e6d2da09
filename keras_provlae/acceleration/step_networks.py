"""The wiring of a training step: the functions of `ladder`, with fewer operations over large maps.

What is linear goes into kernels, which are a hundred times smaller than maps: the gates of the encoder, and the last
affine of the decoder. Two convolutions over the same map become one. The results are the same up to rounding.

Gains in processor time of a step at 28 x 28 and 64 x 64 (`benchmarks/acceleration.py`): the shared convolutions of
`encode` 2 % and 4 %, the folded affine and fewer maps of `decode` 5 % and 10 %.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_provlae import ladder
from keras_provlae.acceleration.convolutions import InPolicyOf, transposed, transposes_slowly
from keras_provlae.acceleration.fused_affine import affine
from keras_provlae.layers import ChannelAffine, Gate


def encode(layers: ladder.EncoderLayers, images: Any, gates: Any) -> tuple[Any, Any]:
    """`ladder.encode` with one convolution for h_{l+1} and the head of rung l, which both see h_l.

    The head's convolution sees `gate_l * h_l`; it is linear, so its kernel takes the gate.

    Args:
        layers: What `ladder.encoder_layers` made.
        images: As `ladder.encode`.
        gates: As `ladder.encode`.

    Returns:
        As `ladder.encode`.
    """
    rungs = layers.rungs
    if _regularizes_activities([layers.stem, *(part for rung in rungs for part in (rung.trunk, rung.head))]):
        return ladder.encode(layers, images, gates)
    h = _in_turn(layers.stem, images)
    h = _in_turn(rungs[0].trunk, h)
    means: list[Any] = []
    log_vars: list[Any] = []
    for rung, trunk in zip(rungs, (*(deeper.trunk for deeper in rungs[1:]), ()), strict=True):
        first, *rest = rung.head
        if isinstance(first, keras.layers.Conv2D):
            shared = bool(trunk) and _are_alike(trunk[0], first)
            *maps, features = _convolutions(([trunk[0]] if shared else []) + [first], h, rung.gate, gates)
        else:
            shared, features = False, first(rung.gate(h, gates))
        features = _in_turn(rest, features)
        means.insert(0, rung.mean(features))
        log_vars.insert(0, rung.log_var(features))
        if trunk:
            h = _in_turn(trunk[1:], maps[0]) if shared else _in_turn(trunk, h)
    return ladder.joined(means), ladder.joined(log_vars)


def decode(
    layers: ladder.DecoderLayers, codes: Any, gates: Any, rungs: Sequence[int] | None = None, maps: list | None = None
) -> Any:
    """`ladder.decode` with the last affine folded into the kernel of the logits.

    Args:
        layers: What `ladder.decoder_layers` made.
        codes: As `ladder.decode`.
        gates: As `ladder.decode`.
        rungs: As `ladder.decode`.
        maps: As `ladder.decode`.

    Returns:
        As `ladder.decode`.
    """
    parts = [layers.stem, layers.logits, *(part for rung in layers.rungs for part in (rung.map, rung.convs))]
    if _regularizes_activities(parts):
        return ladder.decode(layers, codes, gates, rungs, maps)
    last = layers.stem or layers.rungs[-1].convs
    folded = last[-1] if last and isinstance(last[-1], ChannelAffine) else None
    g = None
    for rung, z in zip(layers.rungs, ladder.codes_of_rungs(layers, codes), strict=True):
        if rungs is None or rung.number in rungs:
            m = rung.gate(_in_turn(rung.map, z), gates)
            g = m if g is None else ladder.joined([m, g])
        g = _transposed_in_turn(rung.convs, g, without=folded)
        if maps is not None and (rungs is None or rung.number in rungs):
            maps.append((m, _in_turn([folded], g) if folded in rung.convs else g))
    g = _transposed_in_turn(layers.stem, g, without=folded)
    logits, *crop = layers.logits
    return _in_turn(crop, transposed(logits, g, folded))


def _in_turn(layers, x):
    for layer in layers:
        x = affine(layer, x) if isinstance(layer, ChannelAffine) else layer(x)
    return x


def _transposed_in_turn(layers, g, without):
    """Through layers of the decoder; a locked rung's first one sees g alone and takes that part of its kernel."""
    for layer in layers:
        if layer is without:
            continue
        is_conv = isinstance(layer, keras.layers.Conv2DTranspose)
        if is_conv and (transposes_slowly() or g.shape[-1] != layer.kernel.shape[-1]):
            g = transposed(layer, g)
        else:
            g = _in_turn([layer], g)
    return g


def _convolutions(convs: Sequence[keras.layers.Conv2D], h: Any, gate: Gate, gates: Any) -> list[Any]:
    """Convolutions over h as one; the last is over `gate * h`, with the gate in its kernel."""
    *others, last = convs

    def together(h):
        kernels = [conv.kernel for conv in others] + [last.kernel * ops.cast(gates[gate.index], h.dtype)]
        maps = ops.conv(h, ladder.joined(kernels), list(last.strides), last.padding, data_format=last.data_format)
        return last.activation(ops.add(maps, ladder.joined([conv.bias for conv in convs])))

    maps = InPolicyOf(last, together)(h)
    return ops.split(maps, [conv.filters for conv in others], axis=-1) if others else [maps]


def _are_alike(one, other):
    """Returns whether two convolutions of the same maps can be one: they differ in the number of filters at most."""
    facts = ("kernel_size", "strides", "padding", "activation", "dtype_policy", "data_format")
    return all(getattr(one, fact) == getattr(other, fact) for fact in facts)


def _regularizes_activities(parts):
    """Returns whether a layer must be called itself, because Keras regularizes its output."""
    return any(getattr(layer, "activity_regularizer", None) is not None for part in parts for layer in part)
