"""The published dSprites and 3DShapes: found, downloaded, checked, and unpacked once to be read from any place.

The official files are compressed as a whole (dSprites) or in blocks (3DShapes), and tensorflow-datasets keeps its
records shuffled. Drawing single images needs random access, so the images are copied once into a plain array on disk
that is then mapped into memory.
"""

import errno
import math
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_provlae.datasets.availability import keras_datasets, keras_home, network_answers, say, tfds_is_prepared
from keras_provlae.datasets.ground_truth import GroundTruth
from keras_provlae.datasets.kept_images import render_rows

_AT_ONCE = 1000  # images


class Original(NamedTuple):
    """A published data set with known factors."""

    name: str  # also the name in tensorflow-datasets, where labels are called label_<factor>
    factor_values: Mapping[str, Sequence]
    image_shape: tuple[int, int, int]
    binary: bool  # pixels are 0 or 1, kept as bits
    file_name: str  # of the official file
    url: str  # where that file is
    size: str  # of the download, in words
    read: Callable[[Path, "Original"], Iterator[tuple[np.ndarray, np.ndarray]]]  # numbers in the grid, uint8 images

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each factor."""
        return tuple(map(len, self.factor_values.values()))

    @property
    def expected(self) -> str:
        """What a file must hold, in words."""
        grid = " x ".join(f"{size} {name}" for name, size in zip(self.factor_values, self.sizes, strict=True))
        shape = " x ".join(map(str, self.image_shape))
        return f"{math.prod(self.sizes):,} uint8 images of {shape} ({grid})"


def load(
    original: Original,
    source: str | os.PathLike,
    cache_dir: str | os.PathLike | None,
    twin: Callable[[], GroundTruth],
) -> GroundTruth:
    """The original or its twin, as `source` says.

    Args:
        original: What is published.
        source: `"auto"`, `"tfds"`, `"procedural"` or a path; as `shapes3d` takes it.
        cache_dir: Folder for the unpacked images; `None` is `~/.keras/keras_provlae`.
        twin: Makes the procedural data set.

    Returns:
        A `GroundTruth`.

    Raises:
        ValueError: If a file is corrupt, truncated or holds something else.
        FileNotFoundError: If `source` is no known name and no file.
        ConnectionError: If a download is needed and fails.
    """
    source = os.fspath(source)
    if source == "auto":
        source = _whatever_is_there(original)
    if source == "procedural":
        return twin()
    folder = keras_home() / "keras_provlae" if cache_dir is None else Path(cache_dir).expanduser()
    if source == "tfds":
        images = _from_tfds(original, folder)
    else:
        path = Path(source).expanduser()
        images, source = _from_file(original, path, folder), path.name
    shape = original.image_shape
    if original.binary:
        render = render_rows(lambda rows: _unpacked_bits(images[rows], shape), original.sizes, shape, np.bool_)
    else:
        render = render_rows(lambda rows: images[rows], original.sizes, shape, np.uint8)
    return GroundTruth(original.factor_values, shape, render, original.name, source)


def _whatever_is_there(original):
    """A source that needs no download, and a line that says which."""
    official = keras_datasets() / original.file_name
    if tfds_is_prepared(original.name):
        source, why = "tfds", "the original, as prepared by tensorflow-datasets"
    elif official.is_file():
        source, why = str(official), f"the original, {official}"
    else:
        source = "procedural"
        why = (
            "the procedural twin, rendered on demand; the original is neither prepared by tensorflow-datasets "
            f"(source='tfds' downloads it) nor at {official}"
        )
    say(f"{original.name}: {why}.")
    return source


def _from_file(original, path, folder):
    if not path.is_file():
        raise FileNotFoundError(
            f"`source` must be 'auto', 'tfds', 'procedural' or the path of the official {original.file_name}. "
            f"Received: source={str(path)!r}, which is no file."
        )
    facts = path.stat()
    key = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
    return _unpacked(original, key, path, lambda: original.read(path, original), folder)


def _from_tfds(original, folder):
    import tensorflow_datasets as tfds

    if not tfds_is_prepared(original.name):
        by_hand = (
            f"Or get {original.file_name} ({original.expected}) by hand and give its path as `source`; "
            "source='procedural' needs no download."
        )
        if not network_answers(original.url):
            raise ConnectionError(
                f"{original.name} is not prepared by tensorflow-datasets and {original.url} does not answer. {by_hand}"
            )
        say(f"{original.name}: tensorflow-datasets downloads the original ({original.size}) and prepares it ...")
        try:
            tfds.builder(original.name).download_and_prepare()
        except Exception as error:  # whatever its download raised
            raise ConnectionError(
                f"{original.name}: the download from {original.url} failed ({type(error).__name__}: {error}). {by_hand}"
            ) from error
    builder = tfds.builder(original.name)
    return _unpacked(original, str(builder.data_path), builder.data_path, lambda: _read_tfds(original, builder), folder)


def _unpacked(original, key, where, read, folder):
    """The images `(n, ...)` mapped from the file in `folder` that this makes if it is not there."""
    path = folder / f"{original.name}-{zlib.crc32(key.encode()):08x}.npy"
    if not path.is_file():
        _unpack(original, where, read(), path)
    return np.load(path, mmap_mode="r")


def _unpack(original, where, parts, path):
    count = math.prod(original.sizes)
    pixels = math.prod(original.image_shape)
    shape = (count, pixels // 8) if original.binary else (count, *original.image_shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if free < math.prod(shape):
        raise OSError(
            errno.ENOSPC,
            f"Unpacking {original.name} takes {math.prod(shape):,} bytes, {free:,} are free; give another `cache_dir`",
            str(path.parent),
        )
    say(f"{original.name}: unpacks {where} once, to {path} ({math.prod(shape) / 1e9:.1f} GB) ...")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    bar = keras.utils.Progbar(count, unit_name="image")
    try:
        rows = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        seen = np.zeros(count, bool)
        for index, images in parts:
            _check_part(original, where, images)
            rows[index] = np.packbits(images.reshape(len(images), -1), axis=1) if original.binary else images
            seen[index] = True
            bar.add(len(index))
        if not seen.all():
            raise _unfit(original, where, f"{count - seen.sum():,} of the images are missing")
        rows.flush()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_part(original, where, images):
    if images.dtype != np.uint8 or images.shape[1:] != original.image_shape:
        raise _unfit(original, where, f"it has {images.dtype} images of {images.shape[1:]}")
    if original.binary and images.max() > 1:
        raise _unfit(original, where, f"it has a pixel of {images.max()}, where 0 and 1 are expected")


def _unpacked_bits(rows, image_shape):
    return np.unpackbits(rows, axis=1).reshape(-1, *image_shape).view(np.bool_)


def read_npz(path: Path, original: Original) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images of dSprites's official npz file, part by part, without ever holding them all.

    Args:
        path: The file.
        original: What it must hold.

    Yields:
        Numbers in the grid `(part,)`, and uint8 images `(part, 64, 64, 1)`.

    Raises:
        ValueError: If the file is corrupt, truncated or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open("latents_classes.npy") as file:
                classes = np.lib.format.read_array(file, allow_pickle=False)
            index = _numbers(original, path, classes[:, 1:].T)  # the first is the colour, always white
            with archive.open("imgs.npy") as file:
                shape, _, dtype = np.lib.format.read_array_header_1_0(file) if _is_version_1(file) else (None, 0, 0)
                if shape != (len(index), *original.image_shape[:2]) or dtype != np.uint8:
                    raise _unfit(original, path, f"it has {dtype} images of shape {shape}")
                yield from _parts_of(file, index, original.image_shape)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, IndexError) as error:
        raise _unfit(original, path, f"{type(error).__name__}: {error}") from error


def _is_version_1(file):
    return np.lib.format.read_magic(file) == (1, 0)


def _parts_of(file, index, image_shape):
    for start in range(0, len(index), _AT_ONCE):
        part = index[start : start + _AT_ONCE]
        content = file.read(len(part) * math.prod(image_shape))
        if len(content) < len(part) * math.prod(image_shape):
            raise EOFError("the images end too early")
        yield part, np.frombuffer(content, np.uint8).reshape(-1, *image_shape)


def read_h5(path: Path, original: Original) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images of 3DShapes's official h5 file, part by part.

    Args:
        path: The file.
        original: What it must hold.

    Yields:
        Numbers in the grid `(part,)`, and uint8 images `(part, 64, 64, 3)`.

    Raises:
        ValueError: If the file is corrupt, truncated or holds something else.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            images, labels = file["images"], file["labels"][:]
            values = [np.unique(column, return_inverse=True)[1] for column in labels.T]
            index = _numbers(original, path, values)
            if images.shape[:1] != index.shape:
                raise _unfit(original, path, f"it has images of shape {images.shape} and {len(index)} labels")
            for start in range(0, len(index), _AT_ONCE):
                yield index[start : start + _AT_ONCE], images[start : start + _AT_ONCE]
    except (OSError, KeyError) as error:
        raise _unfit(original, path, f"{type(error).__name__}: {error}") from error


def _read_tfds(original, builder):
    import tensorflow as tf

    try:
        for batch in builder.as_dataset("train", batch_size=_AT_ONCE).as_numpy_iterator():
            labels = [batch[f"label_{name}"] for name in original.factor_values]
            yield _numbers(original, builder.data_path, labels), batch["image"]
    except (tf.errors.OpError, KeyError) as error:
        raise _unfit(original, builder.data_path, f"{type(error).__name__}: {error}") from error


def _numbers(original, where, labels):
    """Numbers in the grid of labels, one array for each factor."""
    found = [1 + int(column.max()) for column in labels]
    if len(labels) != len(original.sizes) or any(map(int.__gt__, found, original.sizes)):
        raise _unfit(original, where, f"its factors have the sizes {found}")
    return np.ravel_multi_index(tuple(np.asarray(column, "int64") for column in labels), original.sizes)


def _unfit(original, where, found):
    return ValueError(
        f"{where} is not {original.name} as published, or not whole. Expected: {original.expected}. "
        f"Received: {found}. Get it again from {original.url}."
    )
