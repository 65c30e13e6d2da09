"""dSprites: a white shape on black, five factors; the original, or a twin rendered on demand.

A pixel of the twin is 1 when its centre lies inside the shape. Shapes lie at multiples of 1/31 of a pixel, so a row
of pixel centres meets one of some 845 lines through the shape: 720 shapes (kind, scale, orientation) times these
lines, with at most two runs of pixels each, are all that has to be known. Run ends are kept as integers in units of
1/31 pixel, so that an image is found by integer arithmetic and does not depend on rounding.
"""

import os

import numpy as np
import tensorflow as tf

from keras_provlae.datasets.ground_truth import GroundTruth
from keras_provlae.datasets.official_files import Original, read_npz
from keras_provlae.datasets.originals import load
from keras_provlae.datasets.renders import Render

SHAPES = ("square", "ellipse", "heart")
SCALES = 0.5 + 0.1 * np.arange(6)
ORIENTATIONS = 2 * np.pi * np.arange(40) / 39  # radians; the last is the first again, as in the original
POSITIONS = np.arange(32) / 31
SIZE = 64  # pixels

# at scale 1, in pixels
_SQUARE_HALF = 9.6
_ELLIPSE_AXES = (12.76, 7.22)
_HEART_WIDTH, _HEART_HEIGHT, _HEART_RISE = 0.6, 0.662, -1.439
_FINE = 31  # steps of position in a pixel
_ORIGIN = 480.5  # of pixel centre 0 from the centre of a shape at position 0, in 1/31 pixel: 31 * (16 - 0.5)
_REACH = 13.6 * _FINE  # the square's half diagonal: nothing is larger

_FACTORS = {
    "shape": SHAPES,
    "scale": SCALES,
    "orientation": ORIENTATIONS,
    "x_position": POSITIONS,
    "y_position": POSITIONS,
}

_ORIGINAL = Original(
    name="dsprites",
    factor_values=_FACTORS,
    image_shape=(SIZE, SIZE, 1),
    binary=True,
    file_name="dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
    url="https://github.com/deepmind/dsprites-dataset",
    size="26 MB",
    read=read_npz,
)


def dsprites(source: str | os.PathLike = "auto", cache_dir: str | os.PathLike | None = None) -> GroundTruth:
    """The 737,280 images of dSprites, 64 x 64 x 1.

    Factors, the last one fastest: shape 3, scale 6, orientation 40, x_position 32, y_position 32.

    Args:
        source: Where the images come from:
            `"auto"`: the original if it is there without a download (prepared by tensorflow-datasets, or the official
            npz file in `~/.keras/datasets`), else the twin. One line says which.
            `"procedural"`: the twin, rendered on demand: the same factors in the same order; some 5 of 100,000
            pixels differ from the original. Cards and titles name it all the same.
            `"tfds"`: the original of tensorflow-datasets, downloaded (26 MB) if it is not prepared.
            A path: the official `dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz`.
        cache_dir: Where the original is unpacked once (377 MB), to be read from any place. `None` is
            `~/.keras/keras_provlae`.

    Returns:
        A `GroundTruth` named `"dsprites"`; its `source` says where it is from.

    Raises:
        ValueError: If a file is corrupt, truncated or not dSprites; the message names it.
        FileNotFoundError: If `source` is no known name and no file.
        ConnectionError: If `"tfds"` has to download and cannot.

    Example:
        >>> truth = dsprites("procedural")
        >>> truth.factor_sizes, int(truth.images([2, 5, 0, 16, 16]).sum())
        ((3, 6, 40, 32, 32), 226)

    Source: Matthey et al. (2017).
    """
    return load(_ORIGINAL, source, cache_dir, twin)


def twin() -> GroundTruth:
    """dSprites as rendered by this package; see `dsprites`."""
    return GroundTruth(_FACTORS, (SIZE, SIZE, 1), Render(_scanning), "dsprites", "procedural")


def _scanning():
    """The `render` that fills the runs of every row."""
    first_line, ends = _runs()
    lines = ends.shape[1]
    ends = tf.constant(ends.reshape(-1, 4), tf.int32)
    begin, end, pixel = np.ogrid[: SIZE + 1, : SIZE + 1, :SIZE]
    rows = tf.constant(((begin <= pixel) & (pixel < end)).reshape(-1, SIZE), tf.float32)  # the row of every run

    def render(factors):
        shape, scale, orientation, x, y = tf.unstack(factors[..., tf.newaxis], axis=1)  # each (batch, 1)
        which = (shape * len(SCALES) + scale) * len(ORIENTATIONS) + orientation
        line = _FINE * tf.range(SIZE) - (_FINE + 1) * y - first_line
        line = tf.clip_by_value(line, 0, lines - 1)  # the first and the last meet nothing
        run = tf.gather(ends, which * lines + line) + (_FINE + 1) * x[..., tf.newaxis]  # (batch, 64, 4)
        column = tf.clip_by_value(-(-run // _FINE), 0, SIZE)  # the first pixel centre at or after it
        images = sum(tf.gather(rows, column[..., i] * (SIZE + 1) + column[..., i + 1]) for i in (0, 2))
        return images[..., tf.newaxis]

    return render


def _runs():
    """Where lines of pixel centres enter and leave every shape.

    Line k lies (k - 480.5) / 31 pixels below the centre of the shape; pixel c of a row is centre 31 c - 32 x in
    the same unit, from the left.

    Returns:
        The number of the first line, and an int array `(720, lines, 4)`: begin and end of one run of centres, and of
        a second or zeros.
    """
    first, last = int(np.floor(_ORIGIN - _REACH)), int(np.ceil(_ORIGIN + _REACH))
    v = (np.arange(first, last + 1) - _ORIGIN) / _FINE
    crossings = [
        cross(scale, -angle, v) for cross in (_cross_square, _cross_ellipse, _cross_heart)
        for scale in SCALES for angle in ORIENTATIONS % (2 * np.pi)
    ]  # fmt: skip
    u = np.stack(crossings)
    return first, np.where(np.isnan(u), 0, np.ceil(u * _FINE + _ORIGIN)).astype("int32")


def _cross_square(scale, angle, v):
    """Where lines at heights `v` (downwards, pixels) enter and leave it: `(lines, 4)`, nan where it is missed."""
    half, cos, sin = _SQUARE_HALF * scale, np.cos(angle), np.sin(angle)
    enter, leave = np.full(len(v), -np.inf), np.full(len(v), np.inf)
    for along, across in ((cos, sin), (-sin, cos)):  # |along u + across v| < half, twice
        if abs(along) < 1e-12:
            enter[np.abs(across * v) >= half] = np.inf
            continue
        one, other = (-half - across * v) / along, (half - across * v) / along
        enter, leave = np.maximum(enter, np.minimum(one, other)), np.minimum(leave, np.maximum(one, other))
    return _one_run(enter, leave)


def _cross_ellipse(scale, angle, v):
    """As `_cross_square`."""
    cos, sin = np.cos(angle), np.sin(angle)
    p, q = (np.array(_ELLIPSE_AXES) * scale) ** -2.0
    a, b, c = p * cos**2 + q * sin**2, (p - q) * cos * sin * v, (p * sin**2 + q * cos**2) * v**2 - 1
    with np.errstate(invalid="ignore"):
        root = np.sqrt(b**2 - a * c)
    return _one_run((-b - root) / a, (-b + root) / a)


def _cross_heart(scale, angle, v):
    """As `_cross_square`; a line can cross it twice."""
    t = np.linspace(-np.pi, np.pi, 4001)
    x = _HEART_WIDTH * 16 * np.sin(t) ** 3
    y = -_HEART_HEIGHT * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) + _HEART_RISE
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    u, height = cos * x - sin * y, sin * x + cos * y
    # the outline, cut where it turns up or down: a line meets each piece once at most
    turns = np.flatnonzero(np.diff(np.sign(np.diff(height)))) + 1
    pieces = np.split(np.arange(len(t)), turns)
    met = []
    for piece in pieces:
        piece = np.append(piece, piece[-1] + 1) if piece[-1] + 1 < len(t) else piece
        order = piece if height[piece[0]] < height[piece[-1]] else piece[::-1]
        met.append(np.interp(v, height[order], u[order], left=np.nan, right=np.nan))
    met = np.sort(met, axis=0)[:4]  # nan last
    return np.pad(met, ((0, 4 - len(met)), (0, 0)), constant_values=np.nan).T


def _one_run(enter, leave):
    runs = np.full((len(enter), 4), np.nan)
    met = enter < leave  # nan is not
    runs[met, 0], runs[met, 1] = enter[met], leave[met]
    return runs
