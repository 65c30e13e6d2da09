"""The ladder: a functional encoder and a functional decoder, built by one loop over rungs.

The encoder climbs: `h_l = f_l^e(h_{l-1})` halves the image once per rung, and the head
of rung l reads its posterior off `gate_l * h_l` (equations 4, 6, 9). The decoder comes
back down: `g_l = f_l^d([gate_l * m_l(z_l); g_{l+1}])` doubles it again (equations 5, 7, 9).

Per-rung settings are ordered l = 1 .. L, shallowest first, as h_1 .. h_L are. Codes,
posteriors and gates are ordered deepest first, z_L .. z_1, as the model grows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import layers, ops

from keras_provlae.layers import ChannelAffine, Gate

# every convolution of the authors' networks
_CONV = {"kernel_size": 4, "padding": "same", "data_format": "channels_last"}


class LadderSpec(NamedTuple):
    """Every number that the encoder and the decoder are built from; see `ladder_spec`."""

    image_shape: tuple
    latent_dim: tuple
    stem: tuple
    channels: tuple
    head_convs: tuple
    head_dense: tuple
    map_dense: tuple
    decoder_convs: tuple
    decoder_affine: tuple
    activation: str

    @property
    def num_rungs(self) -> int:
        return len(self.latent_dim)

    def size(self, level: int) -> tuple[int, int]:
        """Height and width after `level` halvings (rounded up) of the image."""
        height, width, _ = self.image_shape
        return (-(-height // 2**level), -(-width // 2**level))

    def level(self, rung: int) -> int:
        """How often the image has been halved at h_l and g_l; rung 0 is the stem's end."""
        return len(self.stem) + rung

    def decoder_start(self, rung: int) -> int:
        """How often the image has been halved where f_l^d begins."""
        return self.level(rung) + _doublings(self.decoder_convs[rung - 1])


def ladder_spec(
    image_shape: Sequence[int],
    num_rungs: int,
    latent_dim: int | Sequence[int],
    channels: int | Sequence[int] = 32,
    dense: int | None = 256,
    stem: Sequence[int] = (),
    head_convs: Sequence | None = None,
    head_dense: Sequence | None = None,
    map_dense: Sequence | None = None,
    decoder_convs: Sequence | None = None,
    decoder_affine: bool | Sequence[bool] = True,
    activation: str = "elu",
) -> LadderSpec:
    """Completes and checks the few numbers that describe a ladder.

    With the defaults this is the authors' small network (dSprites, 3DShapes), at
    any image size and any number of rungs. Sequences per rung are ordered l = 1 .. L.

    Args:
        image_shape: `(height, width, channels)` in pixels.
        num_rungs: Int L >= 1. Each rung halves the image once more.
        latent_dim: Int >= 1, or L of them: width of each rung's code.
        channels: Int, or L of them: channels of h_l, and of g_l by default.
        dense: Int or `None`: width of the one hidden dense layer of every head and
            every m_l; `None` for no such layer.
        stem: Channels of plain stride-2 convolutions between the image and rung 1,
            mirrored in the decoder; for large images, or one rung at the end of a
            deep trunk (`BetaVAE`).
        head_convs: `None`, or per rung a sequence of `(channels, stride)`:
            convolutions of the head; by default one of stride 2.
        head_dense: `None`, or per rung a sequence of widths: hidden dense layers of the head.
        map_dense: `None`, or per rung a sequence of widths: hidden dense layers of m_l.
        decoder_convs: `None`, or per rung a sequence of `(channels, stride)`:
            transposed convolutions f_l^d; by default one of stride 2. One stride-2 layer
            exactly where l < L; the deepest rung may have any number.
        decoder_affine: Bool, or L of them: whether rung l's decoder layers are
            followed by `ChannelAffine`.
        activation: Name of a Keras activation, such as `"elu"` or `"leaky_relu"`.

    Returns:
        A `LadderSpec`.

    Raises:
        ValueError: If a number is out of range, a sequence has not one entry per
            rung, or the image is too small for so many rungs.
        TypeError: If `num_rungs` is not an integer.

    Example:
        >>> spec = ladder_spec((28, 28, 1), num_rungs=3, latent_dim=2)
        >>> [spec.size(level) for level in range(4)]
        [(28, 28), (14, 14), (7, 7), (4, 4)]

    Source: Li et al. (2020), section 3.2; the widths are the authors' program's.
    """
    image_shape = tuple(image_shape) if hasattr(image_shape, "__len__") else (image_shape,)
    if len(image_shape) != 3 or not all(_is_int(n) and n >= 1 for n in image_shape):
        raise ValueError(
            "`image_shape` must be (height, width, channels), three positive integers. "
            f"Received: image_shape={image_shape}."
        )
    image_shape = tuple(int(n) for n in image_shape)
    if not _is_int(num_rungs):
        raise TypeError(f"`num_rungs` must be an integer. Received: num_rungs={num_rungs!r}.")
    num_rungs = int(num_rungs)
    stem = _widths("stem", stem)
    halvings = (min(image_shape[:2]) - 1).bit_length()  # until the smaller side is 1 pixel
    if not 1 <= num_rungs <= halvings - len(stem):
        raise ValueError(
            f"Each of the {len(stem)} stem layers and of the `num_rungs` rungs halves the image, and "
            f"{image_shape[0]} x {image_shape[1]} pixels can be halved {halvings} times: `num_rungs` must be at least "
            f"1 and at most {halvings - len(stem)}. Received: num_rungs={num_rungs}. Use fewer rungs or larger images."
        )
    channels = _per_rung("channels", channels, num_rungs, _positive)
    halves = [((width, 2),) for width in channels]
    hidden = [() if dense is None else (_positive("dense", dense),)] * num_rungs
    spec = LadderSpec(
        image_shape=image_shape,
        latent_dim=_per_rung("latent_dim", latent_dim, num_rungs, _positive),
        stem=stem,
        channels=channels,
        head_convs=_per_rung("head_convs", halves if head_convs is None else head_convs, num_rungs, _convs),
        head_dense=_per_rung("head_dense", hidden if head_dense is None else head_dense, num_rungs, _widths),
        map_dense=_per_rung("map_dense", hidden if map_dense is None else map_dense, num_rungs, _widths),
        decoder_convs=_per_rung("decoder_convs", halves if decoder_convs is None else decoder_convs, num_rungs, _convs),
        decoder_affine=_per_rung("decoder_affine", decoder_affine, num_rungs, lambda _, value: bool(value)),
        activation=activation,
    )
    for rung, convs in enumerate(spec.decoder_convs[:-1], start=1):
        if _doublings(convs) != 1:
            raise ValueError(
                "g_l must be twice as large as g_{l+1}: `decoder_convs` needs exactly one stride-2 layer at every "
                f"rung but the deepest. Received at rung {rung}: {convs}."
            )
    return spec


def build_encoder(spec: LadderSpec, dtype: Any = None, latent_groups: Sequence[int] | None = None) -> keras.Model:
    """The encoder: images and gates in, the posterior of every rung out.

    Args:
        spec: A `LadderSpec`.
        dtype: Dtype policy of the layers; the posterior is float32 under any.
        latent_groups: `None`, or widths of groups of the latents of a ladder of one rung: there is a gate for
            each group, which multiplies its means and log variances, so that a closed one is the prior.

    Returns:
        A functional `keras.Model` from `[images, gates]`, shapes `(batch, height, width,
        channels)` and `(num_rungs,)`, to `[mean, log_var]`, each `(batch, sum of latent_dim)`
        with the deepest rung's columns first.

    Example:
        >>> encoder = build_encoder(ladder_spec((28, 28, 1), num_rungs=2, latent_dim=3))
        >>> [tuple(output.shape) for output in encoder.outputs]
        [(None, 6), (None, 6)]

    Source: Li et al. (2020), equations 4, 6 and 9.
    """
    images = keras.Input(spec.image_shape, name="images")
    gates = _gates(spec, latent_groups)
    h = images
    for index, width in enumerate(spec.stem, start=1):
        h = _conv(h, width, 2, f"stem_{index}", spec, dtype)
    means, log_vars = [], []
    for rung in range(1, spec.num_rungs + 1):
        h = _conv(h, spec.channels[rung - 1], 2, f"h_{rung}", spec, dtype)
        mean, log_var = _head(h, None if latent_groups else gates, rung, spec, dtype)
        means.insert(0, mean)
        log_vars.insert(0, log_var)
    outputs = [_concatenate(means, "mean"), _concatenate(log_vars, "log_var")]
    if latent_groups:
        names = ("mean", "log_var")
        outputs = [
            _gated_groups(output, gates, latent_groups, name) for output, name in zip(outputs, names, strict=True)
        ]
    return keras.Model([images, gates], outputs, name="encoder")


def build_decoder(spec: LadderSpec, dtype: Any = None, latent_groups: Sequence[int] | None = None) -> keras.Model:
    """The decoder: codes and gates in, one logit per pixel and channel out.

    Args:
        spec: A `LadderSpec`.
        dtype: Dtype policy of the layers; the logits are float32 under any.
        latent_groups: As `build_encoder`; the gate of a group multiplies its codes.

    Returns:
        A functional `keras.Model` from `[codes, gates]`, shapes `(batch, sum of latent_dim)`
        with the deepest rung's columns first and `(num_rungs,)`, to `(batch, height, width, channels)`.

    Example:
        >>> decoder = build_decoder(ladder_spec((28, 28, 1), num_rungs=2, latent_dim=3))
        >>> decoder.output_shape
        (None, 28, 28, 1)

    Source: Li et al. (2020), equations 5, 7 and 9.
    """
    widths = spec.latent_dim[::-1]
    codes = keras.Input((sum(widths),), dtype="float32", name="codes")
    gates = _gates(spec, latent_groups)
    gated = _gated_groups(codes, gates, latent_groups, "codes") if latent_groups else codes
    z = _split(gated, widths)  # z_L .. z_1
    g = None
    for index, rung in enumerate(range(spec.num_rungs, 0, -1)):
        m = _gated_map(z[index], None if latent_groups else gates, rung, g, spec, dtype)
        g = m if g is None else layers.Concatenate(name=f"m_and_g_{rung}", dtype=dtype)([m, g])
        g = _decoder_convs(g, rung, spec, dtype)
    for index in range(len(spec.stem), 0, -1):
        width, size = spec.stem[index - 1], spec.size(index)
        g = _conv_transpose(g, width, 2, size, f"stem_{index}", spec, dtype)
    logits = _conv_to_size(g, spec.image_shape[-1], 2, spec.size(0), "logits", "float32")
    return keras.Model([codes, gates], logits, name="decoder")


def _gates(spec, latent_groups):
    number = spec.num_rungs if latent_groups is None else len(latent_groups)
    return keras.Input(batch_shape=(number,), dtype="float32", name="gates")


def _split(tensor, widths):
    ends = [sum(widths[:index]) for index in range(1, len(widths))]
    return ops.split(tensor, ends, axis=-1) if ends else [tensor]


def _gated_groups(tensor, gates, widths, name):
    groups = [
        Gate(index, name=f"gated_{name}_{index}", dtype="float32")(group, gates)
        for index, group in enumerate(_split(tensor, widths))
    ]
    return _concatenate(groups, f"gated_{name}")


def _head(h, gates, rung, spec, dtype):
    """mu_l(gate_l * h_l) and log sigma_l^2(gate_l * h_l)."""
    x = h if gates is None else Gate(spec.num_rungs - rung, name=f"gated_h_{rung}", dtype=dtype)(h, gates)
    for index, (width, stride) in enumerate(spec.head_convs[rung - 1], start=1):
        x = _conv(x, width, stride, f"head_{rung}_conv_{index}", spec, dtype)
    x = layers.Flatten(name=f"head_{rung}_flatten", data_format="channels_last", dtype=dtype)(x)
    for index, width in enumerate(spec.head_dense[rung - 1], start=1):
        x = _dense(x, width, f"head_{rung}_dense_{index}", spec, dtype)
    width = spec.latent_dim[rung - 1]
    return [layers.Dense(width, name=f"{name}_{rung}", dtype="float32")(x) for name in ("mean", "log_var")]


def _gated_map(z, gates, rung, g, spec, dtype):
    """gate_l * m_l(z_l): a feature map shaped like g_{l+1}, or the one that starts the decoder."""
    affine = spec.decoder_affine[rung - 1]
    for index, width in enumerate(spec.map_dense[rung - 1], start=1):
        z = _dense(z, width, f"m_{rung}_dense_{index}", spec, dtype, affine)
    seed = (*spec.size(spec.decoder_start(rung)), spec.channels[rung - 1])
    shape = seed if g is None else tuple(g.shape[1:])
    m = _dense(z, shape[0] * shape[1] * shape[2], f"m_{rung}", spec, dtype, affine)
    m = layers.Reshape(shape, name=f"m_{rung}_map", dtype=dtype)(m)
    return m if gates is None else Gate(spec.num_rungs - rung, name=f"gated_m_{rung}", dtype=dtype)(m, gates)


def _decoder_convs(g, rung, spec, dtype):
    """f_l^d: from the size of g_{l+1} to the size of g_l."""
    level = spec.decoder_start(rung)
    for index, (width, stride) in enumerate(spec.decoder_convs[rung - 1], start=1):
        level -= stride == 2
        affine = spec.decoder_affine[rung - 1]
        g = _conv_transpose(g, width, stride, spec.size(level), f"g_{rung}_conv_{index}", spec, dtype, affine)
    return g


def _conv(x, width, stride, name, spec, dtype):
    if 1 in x.shape[1:3]:
        dtype = "float32"  # oneDNN's bfloat16 filter gradient reads stray memory where a map is one pixel wide
    conv = layers.Conv2D(width, strides=stride, activation=spec.activation, name=name, dtype=dtype, **_CONV)
    return ChannelAffine(name=f"{name}_affine", dtype=dtype)(conv(x))


def _conv_transpose(x, width, stride, size, name, spec, dtype, affine=True):
    x = _conv_to_size(x, width, stride, size, name, dtype, spec.activation)
    return ChannelAffine(name=f"{name}_affine", dtype=dtype)(x) if affine else x


def _dense(x, width, name, spec, dtype, affine=True):
    x = layers.Dense(width, activation=spec.activation, name=name, dtype=dtype)(x)
    return ChannelAffine(name=f"{name}_affine", dtype=dtype)(x) if affine else x


def _conv_to_size(x, width, stride, size, name, dtype, activation=None):
    """A transposed convolution whose map has a given size: `stride` times that of x, or a row or column less."""
    settings = {**_CONV, "strides": stride, "activation": activation}
    if all(stride * n - 1 == wanted for n, wanted in zip(x.shape[1:3], size, strict=True)):
        settings["output_padding"] = 1  # where both are odd, the layer leaves out the last ones itself
    return _crop(layers.Conv2DTranspose(width, name=name, dtype=dtype, **settings)(x), size)


def _crop(x, size):
    """Drops the last row or column that doubling an odd size rounded up."""
    rows, columns = x.shape[1] - size[0], x.shape[2] - size[1]
    if rows == columns == 0:
        return x
    return layers.Cropping2D(((0, rows), (0, columns)), data_format="channels_last", dtype=x.dtype)(x)


def _concatenate(tensors, name):
    return layers.Concatenate(name=name, dtype="float32")(tensors) if len(tensors) > 1 else tensors[0]


def _doublings(convs):
    return sum(stride == 2 for _, stride in convs)


def _per_rung(name, values, num_rungs, check):
    """One checked entry per rung, from one value for all of them or a sequence."""
    if not hasattr(values, "__len__"):
        values = [values] * num_rungs
    if len(values) != num_rungs:
        raise ValueError(
            f"`{name}` must have one entry per rung, {num_rungs} here, ordered from rung 1 (the shallowest). "
            f"Received: {name}={values}."
        )
    return tuple(check(name, value) for value in values)


def _is_int(value):
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _positive(name, value):
    if not _is_int(value) or value < 1:
        raise ValueError(f"`{name}` must be made of positive integers. Received: {value!r}.")
    return int(value)


def _widths(name, values):
    if not hasattr(values, "__len__"):
        raise ValueError(f"`{name}` must be a sequence of widths. Received: {values!r}.")
    return tuple(_positive(name, value) for value in values)


def _convs(name, values):
    if not hasattr(values, "__len__"):
        raise ValueError(f"`{name}` must be a sequence of pairs (channels, stride). Received: {values!r}.")
    for value in values:
        if not hasattr(value, "__len__") or len(value) != 2 or value[1] not in (1, 2):
            raise ValueError(f"`{name}` must hold pairs (channels, stride), stride 1 or 2. Received: {value!r}.")
    return tuple((_positive(name, width), int(stride)) for width, stride in values)
