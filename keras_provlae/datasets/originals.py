"""Finds, downloads and opens the published dSprites and 3DShapes, or their twins."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_provlae.datasets.array_images import render_rows
from keras_provlae.datasets.availability import keras_datasets, keras_home, network_answers, tfds_is_prepared
from keras_provlae.datasets.ground_truth import GroundTruth
from keras_provlae.datasets.official_files import AT_ONCE, Original, grid_indices, not_as_published
from keras_provlae.datasets.renders import Render, Rows
from keras_provlae.datasets.unpacking import unpacked
from keras_provlae.lazy_tensorflow import tensorflow_datasets, tf
from keras_provlae.messages import say


def load(
    original: Original,
    source: str | os.PathLike,
    cache_dir: str | os.PathLike | None,
    twin: Callable[[], GroundTruth],
) -> GroundTruth:
    """Opens the original or its twin.

    Args:
        original: The published data set.
        source: `"auto"`, `"tfds"`, `"procedural"` or a path, as in `shapes3d`.
        cache_dir: Folder of the unpacked images; `None` is `~/.keras/keras_provlae`.
        twin: Builds the procedural data set.

    Returns:
        A `GroundTruth`.

    Raises:
        ValueError: If a file is corrupt, truncated or not the published data.
        FileNotFoundError: If `source` is neither a known name nor a file.
        ConnectionError: If a download fails.
    """
    source = os.fspath(source)
    if source == "auto":
        source = _available(original)
    if source == "procedural":
        return twin()
    folder = keras_home() / "keras_provlae" if cache_dir is None else Path(cache_dir).expanduser()
    if source == "tfds":
        images = _from_tfds(original, folder)
    else:
        path = Path(source).expanduser()
        images, source = _from_file(original, path, folder), path.name
    shape = original.image_shape
    make, dtype = (_render_bits, np.bool_) if original.binary else (render_rows, np.uint8)
    render = Render(make, Rows(images), original.sizes, shape, dtype)
    return GroundTruth(original.factor_values, shape, render, original.name, source)


def _available(original):
    """Picks a source that needs no download, and prints which one."""
    official = keras_datasets() / original.file_name
    if tfds_is_prepared(original.name):
        source, which = "tfds", "the original, prepared by tensorflow-datasets"
    elif official.is_file():
        source, which = str(official), f"the original, {official}"
    else:
        source = "procedural"
        which = (
            "the procedural twin, rendered on demand; the original is neither prepared by tensorflow-datasets "
            f"(source='tfds' downloads it) nor at {official}"
        )
    say(f"{original.name}: {which}.")
    return source


def _from_file(original, path, folder):
    if not path.is_file():
        raise FileNotFoundError(
            f"`source` must be 'auto', 'tfds', 'procedural' or the path of the official {original.file_name}. "
            f"Received: source={str(path)!r}, which is not a file."
        )
    return unpacked(original, path.resolve(), _version(path), lambda: original.read(path, original), folder)


def _from_tfds(original, folder):
    tfds = tensorflow_datasets(f"`datasets.{original.name}(source='tfds')`")
    if not tfds_is_prepared(original.name):
        by_hand = (
            f"Or download {original.file_name} ({original.expected}) by hand and pass its path as `source`. "
            "source='procedural' needs no download."
        )
        if not network_answers(original.url):
            raise ConnectionError(
                f"{original.name} is not prepared by tensorflow-datasets and {original.url} does not answer. {by_hand}"
            )
        say(f"{original.name}: downloading the original with tensorflow-datasets ({original.size}) ...")
        try:
            tfds.builder(original.name).download_and_prepare()
        except Exception as error:  # any error of the download
            raise ConnectionError(
                f"{original.name}: the download from {original.url} failed ({type(error).__name__}: {error}). {by_hand}"
            ) from error
    builder = tfds.builder(original.name)
    where = Path(builder.data_path)
    return unpacked(
        original, where, _version(where / "dataset_info.json"), lambda: _read_tfds(original, builder), folder
    )


def _version(path):
    """Returns a text that changes when the file does."""
    facts = path.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _read_tfds(original, builder):
    try:
        for batch in builder.as_dataset("train", batch_size=AT_ONCE).as_numpy_iterator():
            labels = [batch[f"label_{name}"] for name in original.factor_values]
            yield grid_indices(original, builder.data_path, labels), batch["image"]
    except (tf.errors.OpError, KeyError) as error:
        raise not_as_published(original, builder.data_path, f"{type(error).__name__}: {error}") from error


def _render_bits(ops, read, sizes, image_shape, dtype):
    def read_bits(index):
        return np.unpackbits(read(index), axis=1).reshape(-1, *image_shape).view(dtype)

    return render_rows(ops, read_bits, sizes, image_shape, dtype)
