"""dSprites: white shapes on black with five factors, as the original or as a twin rendered on demand.

A pixel of the twin is 1 if its center is inside the shape. Shapes move in steps of 1/31 pixel, so every row of pixel
centers is one of about 845 scan lines through the shape. A table holds, for each of the 720 shapes (kind, scale,
orientation) and each scan line, the ends of at most two runs of pixels. The ends are integers in units of 1/31 pixel,
so rendering is exact integer arithmetic.
"""

import functools
import os
from collections.abc import Sequence

import numpy as np

from keras_provlae.datasets.ground_truth import GroundTruth
from keras_provlae.datasets.official_files import Original, read_npz
from keras_provlae.datasets.originals import load
from keras_provlae.datasets.renders import Render

SHAPES = ("square", "ellipse", "heart")
SCALES = 0.5 + 0.1 * np.arange(6)
ORIENTATIONS = 2 * np.pi * np.arange(40) / 39  # radians; the last equals the first, as in the original
POSITIONS = np.arange(32) / 31
SIZE = 64  # pixels

# pixels, at scale 1
_SQUARE_HALF = 9.6
_ELLIPSE_AXES = (12.76, 7.22)
_HEART_WIDTH, _HEART_HEIGHT, _HEART_RISE = 0.6, 0.662, -1.439
_FINE = 31  # units per pixel
_ORIGIN = 480.5  # from pixel center 0 to the center of a shape at position 0, in 1/31 pixel: 31 * (16 - 0.5)
_REACH = 13.6 * _FINE  # half the diagonal of the largest shape, the square

_FACTORS: dict[str, Sequence | np.ndarray] = {
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
    """Loads dSprites: 737,280 images, 64 x 64 x 1.

    Factors, last one fastest: shape 3, scale 6, orientation 40, x_position 32, y_position 32.

    Args:
        source: Where the images come from:
            `"auto"`: the original if it is available without a download (prepared by tensorflow-datasets, or the
            official npz file in `~/.keras/datasets`), else the twin. Prints which one.
            `"procedural"`: the twin, rendered on demand. Same factors and order; about 5 in 100,000 pixels differ from
            the original. Metric cards and titles name the source.
            `"tfds"`: the original from tensorflow-datasets, downloaded (26 MB) if necessary.
            A path: the official `dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz`.
        cache_dir: Folder where the original is unpacked once (377 MB) for random access. `None` is
            `~/.keras/keras_provlae`.

    Returns:
        A `GroundTruth` named `"dsprites"` with the `source`.

    Raises:
        ValueError: If a file is corrupt, truncated or not dSprites; the message gives its path.
        FileNotFoundError: If `source` is neither a known name nor a file.
        ConnectionError: If a download for `"tfds"` fails.

    Example:
        >>> truth = dsprites("procedural")
        >>> truth.factor_sizes, int(truth.images([2, 5, 0, 16, 16]).sum())
        ((3, 6, 40, 32, 32), 226)

    Source: Matthey et al. (2017).
    """
    return load(_ORIGINAL, source, cache_dir, twin)


def twin() -> GroundTruth:
    """Returns the procedural dSprites; see `dsprites`."""
    return GroundTruth(_FACTORS, (SIZE, SIZE, 1), Render(_scanning), "dsprites", "procedural")


def _scanning(ops):
    """Builds the `render` that fills the runs of every row."""
    first_line, ends = _runs()
    lines = ends.shape[1]
    ends = ops.constant(ends.reshape(-1, 4), "int32")
    begin, end, pixel = np.ogrid[: SIZE + 1, : SIZE + 1, :SIZE]
    # row of pixels of each run
    rows = ops.constant(((begin <= pixel) & (pixel < end)).reshape(-1, SIZE), "float32")
    lines_of_rows = ops.constant(_FINE * np.arange(SIZE) - first_line, "int32")

    def render(factors):
        shape, scale, orientation, x, y = (factors[:, i : i + 1] for i in range(5))  # each (batch, 1)
        which = (shape * len(SCALES) + scale) * len(ORIENTATIONS) + orientation
        # the first and last lines miss the shape
        line = ops.clip(lines_of_rows - (_FINE + 1) * y, 0, lines - 1)
        run = ops.gather(ends, which * lines + line) + (_FINE + 1) * x[..., None]  # (batch, 64, 4)
        column = ops.clip(-(-run // _FINE), 0, SIZE)  # first pixel center at or after it
        images = sum(ops.gather(rows, column[..., i] * (SIZE + 1) + column[..., i + 1]) for i in (0, 2))
        return images[..., None]

    return render


@functools.cache
def _runs():
    """Computes where scan lines of pixel centers enter and leave every shape.

    Line k is (k - 480.5) / 31 pixels below the center of the shape. Pixel c of a row is at 31 c - 32 x, in the same
    unit, from the left.

    Returns:
        The number of the first line, and an int array `(720, lines, 4)`: begin and end of one run of pixel centers,
        then of a second run, or zeros.
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
    """Returns where lines at heights `v` (downward, pixels) enter and leave: `(lines, 4)`, NaN if they miss."""
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
    """Like `_cross_square`."""
    cos, sin = np.cos(angle), np.sin(angle)
    p, q = (np.array(_ELLIPSE_AXES) * scale) ** -2.0
    a, b, c = p * cos**2 + q * sin**2, (p - q) * cos * sin * v, (p * sin**2 + q * cos**2) * v**2 - 1
    with np.errstate(invalid="ignore"):
        root = np.sqrt(b**2 - a * c)
    return _one_run((-b - root) / a, (-b + root) / a)


def _cross_heart(scale, angle, v):
    """Like `_cross_square`; a line can cross the heart twice."""
    t = np.linspace(-np.pi, np.pi, 4001)
    x = _HEART_WIDTH * 16 * np.sin(t) ** 3
    y = -_HEART_HEIGHT * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) + _HEART_RISE
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    u, height = cos * x - sin * y, sin * x + cos * y
    # outline pieces that only rise or only fall: a line crosses each at most once
    turns = np.flatnonzero(np.diff(np.sign(np.diff(height)))) + 1
    pieces = np.split(np.arange(len(t)), turns)
    met = []
    for piece in pieces:
        piece = np.append(piece, piece[-1] + 1) if piece[-1] + 1 < len(t) else piece
        order = piece if height[piece[0]] < height[piece[-1]] else piece[::-1]
        met.append(np.interp(v, height[order], u[order], left=np.nan, right=np.nan))
    met = np.sort(met, axis=0)[:4]  # NaN last
    return np.pad(met, ((0, 4 - len(met)), (0, 0)), constant_values=np.nan).T


def _one_run(enter, leave):
    runs = np.full((len(enter), 4), np.nan)
    met = enter < leave  # False for NaN
    runs[met, 0], runs[met, 1] = enter[met], leave[met]
    return runs
