"""Images of a run, with the factors or labels that it is scored against."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_provlae import datasets
from keras_provlae.experiments.runs import DATA


class Data(NamedTuple):
    """Training images and ground truth of a run.

    Attributes:
        truth: A `GroundTruth`. For images with unknown factors, its one factor is the image's index.
        labels: `None`, or int array `(images, 1)`: labels that replace the unknown factors.
        factor_names: Names of the factors or of the label; empty without either.
        name: Name of the data and their origin.
        real: Bool. False for a procedural twin or stand-in.
    """

    truth: datasets.GroundTruth
    labels: np.ndarray | None
    factor_names: tuple
    name: str
    real: bool

    @property
    def has_factors(self) -> bool:
        """Whether the images form a grid of known factors, as MIG and MIG-sup require."""
        return self.labels is None and bool(self.factor_names)

    def factors(self, factors: np.ndarray) -> np.ndarray:
        """Maps the factors of `truth` to those that the scores use: labels where there are any."""
        return factors if self.labels is None else self.labels[factors[:, 0]]


def load(run: Mapping[str, Any], source: Any = None) -> Data:
    """Loads the images of a run.

    Args:
        run: A complete run.
        source: Source for the data set's loader; `None` means the run's own `source`.

    Returns:
        A `Data`. The last one is cached for the next run.

    Raises:
        FileNotFoundError, ValueError, ...: From the loaders of `datasets`.
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
        raise ValueError(
            "These runs reproduce MNIST tables: Fashion-MNIST cannot replace it. Received: 'fashion_mnist'."
        )
    if name == "mnist":
        images, labels = _all(datasets.mnist("train", 1000, source, with_labels=True, seed=0))
        origin, names = f"{len(images):,} real digits", ("digit",)
    else:
        images, _ = _all(datasets.celeb_a("train", 1000, source, seed=0).map(lambda faces: (faces, 0)))
        origin, labels, names = f"{len(images):,} faces", None, ()
    truth = datasets.GroundTruth.from_arrays(images, np.arange(len(images))[:, np.newaxis], ["image"], name, origin)
    return Data(truth.downscale(times), labels, names, f"{name}, {origin}", True)


def _all(ds):
    """Returns all images as uint8, and their labels `(images, 1)`."""
    images, labels = [], []
    for batch, label in ds.as_numpy_iterator():
        images.append(np.round(255 * batch).astype("uint8"))
        labels.append(np.broadcast_to(label, len(batch)))
    return np.concatenate(images), np.concatenate(labels)[:, np.newaxis].astype("int64")
