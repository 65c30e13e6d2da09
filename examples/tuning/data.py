"""Images for a search: those to train on, and held-out ones to score."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

import keras_provlae as kp

TWINS = ("dsprites", "shapes3d")  # 64 x 64, with known factors
HELD = 5000  # at most, and at most a tenth of all


class Data(NamedTuple):
    """Images of a search.

    Attributes:
        truth: A `GroundTruth`. Where no factors are known, the only one is the number of the image.
        rows: Int array: the rows of `truth` to train on.
        images: Float array `(n, height, width, channels)`: those held out, to score.
        factors: Int array `(n, factors)` of `images`, or `None` where they are not known.
    """

    truth: kp.datasets.GroundTruth
    rows: np.ndarray
    images: np.ndarray
    factors: np.ndarray | None


def load(name, source, size):
    """Loads the images.

    Args:
        name: One of `TWINS`, `"mnist"`, or the path of a folder of images.
        source: Source of the data set, as its loader takes it; folders have none.
        size: Int. Height and width in pixels, but for MNIST.

    Returns:
        A `Data`.
    """
    known = name in TWINS
    truth = getattr(kp.datasets, name)(source).downscale(64 // size) if known else _numbered(name, source, size)
    order = np.random.default_rng(0).permutation(len(truth))
    held = truth.factors(order[: max(2, min(HELD, len(truth) // 10))])
    return Data(truth, order[len(held) :], truth.images(held), held if known else None)


def _numbered(name, source, size):
    """Holds images without known factors in memory: a ground truth has batches that depend on the seed alone."""
    if name == "mnist":
        ds = kp.datasets.mnist("train", 1000, source=source, seed=0)
    else:
        ds = kp.datasets.image_folder(name, 100, image_size=size, shuffle=False)
    images = np.concatenate([np.rint(255 * batch).astype("uint8") for batch in ds.as_numpy_iterator()])
    numbers = np.arange(len(images))[:, np.newaxis]
    name, source = Path(name).resolve().name, f"{len(images):,} images"
    return kp.datasets.GroundTruth.from_arrays(images, numbers, ["image"], name, source)
