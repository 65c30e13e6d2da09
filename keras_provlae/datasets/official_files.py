"""The official files of dSprites and 3DShapes, read part by part and checked."""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

AT_ONCE = 1000  # images


class UnfitFileError(ValueError):
    """A file is not what was published, or not whole."""


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
            index = numbers_in_grid(original, path, classes[:, 1:].T)  # the first is the colour, always white
            with archive.open("imgs.npy") as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise unfit(original, path, "its images are no array of NumPy's format 1.0")
                shape, column_wise, dtype = np.lib.format.read_array_header_1_0(file)
                if shape != (len(index), *original.image_shape[:2]) or dtype != np.uint8 or column_wise:
                    order = " in Fortran order" if column_wise else ""
                    raise unfit(original, path, f"it has {dtype} images of shape {shape}{order}")
                yield from _parts_of(file, index, original.image_shape)
    except UnfitFileError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, IndexError, TypeError, ValueError) as error:
        raise unfit(original, path, f"{type(error).__name__}: {error}") from error


def _parts_of(file, index, image_shape):
    for start in range(0, len(index), AT_ONCE):
        part = index[start : start + AT_ONCE]
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
            index = numbers_in_grid(original, path, values)
            if images.shape[:1] != index.shape:
                raise unfit(original, path, f"it has images of shape {images.shape} and {len(index)} labels")
            for start in range(0, len(index), AT_ONCE):
                yield index[start : start + AT_ONCE], images[start : start + AT_ONCE]
    except (UnfitFileError, BlockingIOError, PermissionError):  # the last two are not the file's fault
        raise
    except (OSError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise unfit(original, path, f"{type(error).__name__}: {error}") from error


def numbers_in_grid(original: Original, where: Path | str, labels: Sequence[np.ndarray]) -> np.ndarray:
    """Numbers in the grid of labels, one integer array for each factor; raises where they do not fit."""
    labels = [np.asarray(column) for column in labels]
    if not all(np.issubdtype(column.dtype, np.integer) for column in labels):
        raise unfit(original, where, f"its factors are {', '.join(str(column.dtype) for column in labels)}")
    if not labels or not labels[0].size:
        raise unfit(original, where, "it has no image")
    found = [1 + int(column.max()) for column in labels]
    if len(labels) != len(original.sizes) or any(map(int.__gt__, found, original.sizes)):
        raise unfit(original, where, f"its factors have the sizes {found}")
    if min(int(column.min()) for column in labels) < 0:
        raise unfit(original, where, "a factor is negative")
    return np.ravel_multi_index(tuple(labels), original.sizes)


def unfit(original: Original, where: Path | str, found: str) -> UnfitFileError:
    """The error that names the file, what was expected and what was found."""
    return UnfitFileError(
        f"{where} is not {original.name} as published, or not whole. Expected: {original.expected}. "
        f"Received: {found}. Get it again from {original.url}."
    )
