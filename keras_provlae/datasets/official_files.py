"""Readers for the official files of dSprites and 3DShapes, in parts and with checks."""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

AT_ONCE = 1000  # images per part


class WrongFileError(ValueError):
    """Raised if a file is incomplete or not the published one."""


class Original(NamedTuple):
    """Description of a published data set with known factors."""

    name: str  # also in tensorflow-datasets, where labels are called label_<factor>
    factor_values: Mapping[str, Sequence | np.ndarray]
    image_shape: tuple[int, int, int]
    binary: bool  # pixels are 0 or 1, stored as bits
    file_name: str  # of the official file
    url: str  # of the official file
    size: str  # of the download, such as "26 MB"
    read: Callable[[Path, "Original"], Iterator[tuple[np.ndarray, np.ndarray]]]  # grid indices, uint8 images

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each factor."""
        return tuple(map(len, self.factor_values.values()))

    @property
    def expected(self) -> str:
        """Description of the images, for messages."""
        grid = " x ".join(f"{size} {name}" for name, size in zip(self.factor_values, self.sizes, strict=True))
        shape = " x ".join(map(str, self.image_shape))
        return f"{math.prod(self.sizes):,} uint8 images of {shape} ({grid})"


def read_npz(path: Path, original: Original) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Reads dSprites's official npz file in parts, never all of it at once.

    Args:
        path: Path of the file.
        original: Published data set that the file must match.

    Yields:
        Grid indices `(part,)` and uint8 images `(part, 64, 64, 1)`.

    Raises:
        ValueError: If the file is corrupt, truncated or not the published data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open("latents_classes.npy") as file:
                classes = np.lib.format.read_array(file, allow_pickle=False)
            index = grid_indices(original, path, classes[:, 1:].T)  # column 0 is the color, always white
            with archive.open("imgs.npy") as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise not_as_published(original, path, "images that are not in NumPy's format 1.0")
                shape, column_wise, dtype = np.lib.format.read_array_header_1_0(file)
                if shape != (len(index), *original.image_shape[:2]) or dtype != np.uint8 or column_wise:
                    order = " in Fortran order" if column_wise else ""
                    raise not_as_published(original, path, f"{dtype} images of shape {shape}{order}")
                yield from _parts_of(file, index, original.image_shape)
    except WrongFileError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, IndexError, TypeError, ValueError) as error:
        raise not_as_published(original, path, f"{type(error).__name__}: {error}") from error


def _parts_of(file, index, image_shape):
    for start in range(0, len(index), AT_ONCE):
        part = index[start : start + AT_ONCE]
        content = file.read(len(part) * math.prod(image_shape))
        if len(content) < len(part) * math.prod(image_shape):
            raise EOFError("too few images")
        yield part, np.frombuffer(content, np.uint8).reshape(-1, *image_shape)


def read_h5(path: Path, original: Original) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Reads 3DShapes's official h5 file in parts.

    Args:
        path: Path of the file.
        original: Published data set that the file must match.

    Yields:
        Grid indices `(part,)` and uint8 images `(part, 64, 64, 3)`.

    Raises:
        ValueError: If the file is corrupt, truncated or not the published data.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            images, labels = file["images"], file["labels"][:]
            values = [np.unique(column, return_inverse=True)[1] for column in labels.T]
            index = grid_indices(original, path, values)
            if images.shape[:1] != index.shape:
                raise not_as_published(original, path, f"images of shape {images.shape} and {len(index)} labels")
            for start in range(0, len(index), AT_ONCE):
                yield index[start : start + AT_ONCE], images[start : start + AT_ONCE]
    except (WrongFileError, BlockingIOError, PermissionError):  # the last two do not mean a bad file
        raise
    except (OSError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise not_as_published(original, path, f"{type(error).__name__}: {error}") from error


def grid_indices(original: Original, where: Path | str, labels: Iterable[np.ndarray]) -> np.ndarray:
    """Checks labels, one integer array per factor, and returns their grid indices."""
    labels = [np.asarray(column) for column in labels]
    if not all(np.issubdtype(column.dtype, np.integer) for column in labels):
        raise not_as_published(original, where, f"factors of type {', '.join(str(column.dtype) for column in labels)}")
    if not labels or not labels[0].size:
        raise not_as_published(original, where, "no images")
    found = [1 + int(column.max()) for column in labels]
    if len(labels) != len(original.sizes) or any(map(int.__gt__, found, original.sizes)):
        raise not_as_published(original, where, f"factors of sizes {found}")
    if min(int(column.min()) for column in labels) < 0:
        raise not_as_published(original, where, "a negative factor")
    return np.ravel_multi_index(tuple(labels), original.sizes)


def not_as_published(original: Original, where: Path | str, found: str) -> WrongFileError:
    """Returns an error with the path, the expected data and the found data."""
    return WrongFileError(
        f"{where} must be {original.name} as published: {original.expected}. "
        f"Received: {found}. Download it again from {original.url}."
    )
