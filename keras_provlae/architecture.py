"""The numbers that describe a ladder, completed and checked."""

from collections.abc import Sequence
from typing import NamedTuple


class LadderSpec(NamedTuple):
    """Every number that describes a ladder; see `ladder_spec`."""

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
        """Number of halvings of the image at h_l and g_l; rung 0 is the end of the stem."""
        return len(self.stem) + rung

    def decoder_start(self, rung: int) -> int:
        """Number of halvings of the image where f_l^d begins."""
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
    """Completes and checks the numbers that describe a ladder.

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
        decoder_affine: Bool, or L of them: whether a `ChannelAffine` follows each of
            rung l's decoder layers.
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


def _doublings(convs):
    return sum(stride == 2 for _, stride in convs)


def _per_rung(name, values, num_rungs, check):
    """Returns one checked entry per rung, from a single value or a sequence."""
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
