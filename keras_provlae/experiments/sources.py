"""The images of a run and the factors, or labels, that its scores are computed against."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_provlae import datasets
from keras_provlae.experiments.runs import DATA


class Data(NamedTuple):
    """What a run trains on and is scored against.

    Attributes:
        truth: A `GroundTruth`. Where nothing is known of the images, its one factor is their number.
        labels: `None`, or int array `(images, 1)`: what stands for the factors of such data.
        factor_names: Names of the factors or of the label; empty where nothing is known.
        name: What the data are and where they come from.
        real: Bool. False for a procedural twin or stand-in.
    """

    truth: datasets.GroundTruth
    labels: np.ndarray | None
    factor_names: tuple
    name: str
    real: bool

    @property
    def has_factors(self) -> bool:
        """Whether the images are points of a grid of factors, which MIG and MIG-sup are of."""
        return self.labels is None and bool(self.factor_names)

    def factors(self, factors: np.ndarray) -> np.ndarray:
        """What the scores take for the factors that `truth` gives."""
        return factors if self.labels is None else self.labels[factors[:, 0]]


def load(run: Mapping[str, Any], source: Any = None) -> Data:
    """The images of a complete run.

    Args:
        run: A complete run.
        source: What the data set's loader takes; `None` is the `source` of the run.

    Returns:
        A `Data`; the last one is kept for the next run.

    Raises:
        FileNotFoundError, ValueError, ...: As the loaders of `datasets`.
    """
    source = run["source"] if source is None else str(source)
    return _load(run["data"], DATA[run["data"]] // run["size"], source)


@functools.lru_cache(maxsize=1)  # TensorFlow keeps images in memory until the process ends
def _load(name, times, source):
    if name in ("shapes3d", "dsprites", "scenes"):
        truth = datasets.scenes() if name == "scenes" else getattr(datasets, name)(source)
        truth = truth.downscale(times)
        real = truth.source != "procedural"
        return Data(truth, None, truth.factor_names, f"{truth.name}, {'original' if real else 'procedural'}", real)
    if source == "fashion_mnist":
        raise ValueError("Fashion-MNIST is not MNIST, whose tables these runs stand beside. Received: 'fashion_mnist'.")
    if name == "mnist":
        images, labels = _all(datasets.mnist("train", 1000, source, with_labels=True, seed=0))
        origin, names = f"{len(images):,} real digits", ("digit",)
    else:
        images, _ = _all(datasets.celeb_a("train", 1000, source, seed=0).map(lambda faces: (faces, 0)))
        origin, labels, names = f"{len(images):,} faces", None, ()
    truth = datasets.GroundTruth.from_arrays(images, np.arange(len(images))[:, np.newaxis], ["image"], name, origin)
    return Data(truth.downscale(times), labels, names, f"{name}, {origin}", True)


def _all(ds):
    """All images of a data set as uint8, and their labels `(images, 1)`."""
    images, labels = [], []
    for batch, label in ds.as_numpy_iterator():
        images.append(np.round(255 * batch).astype("uint8"))
        labels.append(np.broadcast_to(label, len(batch)))
    return np.concatenate(images), np.concatenate(labels)[:, np.newaxis].astype("int64")
