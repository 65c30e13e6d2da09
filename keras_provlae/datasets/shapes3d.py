"""3DShapes: an object in a colored room with six factors, as the original or as a twin rendered on demand."""

import colorsys
import os
from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from keras_provlae.datasets.ground_truth import GroundTruth
from keras_provlae.datasets.official_files import Original, read_h5
from keras_provlae.datasets.originals import load
from keras_provlae.datasets.renders import Render
from keras_provlae.datasets.shapes3d_renderer import ORIENTATIONS, SCALES, SHAPES, SIZE

_HUES = np.arange(10) / 10
_FACTORS: dict[str, Sequence | np.ndarray] = {
    "floor_hue": _HUES,
    "wall_hue": _HUES,
    "object_hue": _HUES,
    "scale": SCALES,
    "shape": SHAPES,
    "orientation": ORIENTATIONS,  # degrees
}
_SKY = np.array([153, 226, 249]) / 255

_ORIGINAL = Original(
    name="shapes3d",
    factor_values=_FACTORS,
    image_shape=(SIZE, SIZE, 3),
    binary=False,
    file_name="3dshapes.h5",
    url="https://storage.googleapis.com/3d-shapes/3dshapes.h5",
    size="255 MB",
    read=read_h5,
)


def shapes3d(source: str | os.PathLike = "auto", cache_dir: str | os.PathLike | None = None) -> GroundTruth:
    """Loads 3DShapes: 480,000 images, 64 x 64 x 3.

    Factors, last one fastest: floor_hue 10, wall_hue 10, object_hue 10, scale 8, shape 4, orientation 15.

    Args:
        source: Where the images come from:
            `"auto"`: the original if it is available without a download (prepared by tensorflow-datasets, or the
            official `3dshapes.h5` in `~/.keras/datasets`), else the twin. Prints which one.
            `"procedural"`: the twin, rendered on demand from shading maps in the package. Same factors and order; the
            mean pixel error is about 7 / 255. Scores differ from those on the original; metric cards and titles name
            the source.
            `"tfds"`: the original from tensorflow-datasets, downloaded (255 MB) if necessary.
            A path: the official `3dshapes.h5`.
        cache_dir: Folder where the original is unpacked once (5.9 GB) for random access. `None` is
            `~/.keras/keras_provlae`.

    Returns:
        A `GroundTruth` named `"shapes3d"` with the `source`.

    Raises:
        ValueError: If a file is corrupt, truncated or not 3DShapes; the message gives its path.
        FileNotFoundError: If `source` is neither a known name nor a file.
        ConnectionError: If a download for `"tfds"` fails.

    Example:
        >>> truth = shapes3d("procedural")
        >>> truth.factor_sizes, truth.images([0, 5, 2, 7, 1, 7]).shape
        ((10, 10, 10, 8, 4, 15), (64, 64, 3))

    Source: Burgess and Kim (2018).
    """
    return load(_ORIGINAL, source, cache_dir, twin)


def twin() -> GroundTruth:
    """Returns the procedural 3DShapes; see `shapes3d`."""
    return GroundTruth(_FACTORS, (SIZE, SIZE, 3), Render(_coloring), "shapes3d", "procedural")


def _coloring(ops):
    """Builds the `render` that colors the shading maps."""
    with files("keras_provlae.datasets").joinpath("shapes3d_maps.npz").open("rb") as file, np.load(file) as content:
        maps = ops.constant(content["maps"].reshape(-1, SIZE * SIZE, 4), "uint8")
    hues = ops.constant([colorsys.hsv_to_rgb(hue, 1.0, 1.0) for hue in _HUES] + [_SKY], "float32")

    def render(factors):
        scale, shape, orientation = factors[:, 3], factors[:, 4], factors[:, 5]
        geometry = (scale * len(SHAPES) + shape) * len(ORIENTATIONS) + orientation
        shares = ops.cast(ops.gather(maps, geometry), "float32")  # (batch, pixels, 4), 0 .. 255
        sky = 0 * factors[:, :1] + len(_HUES)
        colors = ops.gather(hues, ops.concat([sky, factors[:, :3]], axis=1))  # (batch, 4, 3)
        return ops.reshape(ops.matmul(shares, colors / 255.0), (-1, SIZE, SIZE, 3))

    return render
