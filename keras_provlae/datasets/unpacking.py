"""Images unpacked once into a plain array on disk, and mapped from there: single images need random access.

The official files are compressed as a whole (dSprites) or in blocks (3DShapes), and tensorflow-datasets keeps its
records shuffled.
"""

import errno
import math
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np

from keras_provlae.datasets.availability import say
from keras_provlae.datasets.official_files import Original, unfit

_FORGOTTEN_SECONDS = 3600  # a half unpacked file that nobody wrote to for so long is of a process that was killed


def unpacked(
    original: Original, where: Path | str, version: str, read: Callable[[], Iterable], folder: Path
) -> np.ndarray:
    """The images, unpacked if that is not done yet.

    Args:
        original: What they must be.
        where: Where they come from; with `version` it names the unpacked file. Files of other versions are removed.
        version: What changes when the source does.
        read: Gives parts: numbers in the grid `(part,)`, and uint8 images `(part, height, width, channels)`.
        folder: Where unpacked files are kept.

    Returns:
        uint8 array mapped from the file: `(n, height, width, channels)`, or `(n, bytes)` of bits where they are binary.

    Raises:
        ValueError: If the source is not whole or holds something else. No file is left then.
        OSError: If the disk is too small.
    """
    count, pixels = math.prod(original.sizes), math.prod(original.image_shape)
    shape = (count, pixels // 8) if original.binary else (count, *original.image_shape)
    stem = f"{original.name}-{zlib.crc32(str(where).encode()):08x}"
    path = folder / f"{stem}-{zlib.crc32(version.encode()):08x}.npy"
    images = _mapped(path, shape)
    if images is None:
        folder.mkdir(parents=True, exist_ok=True)
        _unpack(original, where, read(), path, shape)
        for other in folder.glob(f"{stem}-*.npy"):
            if other != path:
                other.unlink(missing_ok=True)
        images = _mapped(path, shape)
    return images


def _mapped(path, shape):
    """The array in a file, or `None` where it is missing or damaged."""
    try:
        images = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        return None
    except (ValueError, EOFError):
        images = None
    if images is None or images.shape != shape or images.dtype != np.uint8:
        say(f"{path} is damaged and made again.")
        return None
    return images


def _unpack(original, where, parts, path, shape):
    _remove_forgotten(path)
    say(f"{original.name}: unpacks {where} once, to {path} ({math.prod(shape) / 1e9:.1f} GB) ...")
    handle, temporary = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".partial", dir=path.parent)
    bar = keras.utils.Progbar(shape[0], unit_name="image")
    try:
        with open(handle, "w+b") as file:
            rows = _reserved(file, shape)
        seen = np.zeros(shape[0], bool)
        for index, images in parts:
            _check_part(original, where, images)
            rows[index] = np.packbits(images.reshape(len(images), -1), axis=1) if original.binary else images
            seen[index] = True
            bar.add(len(index))
        if not seen.all():
            raise unfit(original, where, f"{len(seen) - seen.sum():,} of the images are missing")
        rows.flush()
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _reserved(file, shape):
    """A new npy file as an array, all of its space taken: a disk that fills later would end the process."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    begin, size = file.tell(), math.prod(shape)
    file.flush()
    try:
        os.posix_fallocate(file.fileno(), begin, size)
    except (AttributeError, OSError) as error:  # not every system has it
        if getattr(error, "errno", None) == errno.ENOSPC:
            words = f"Unpacking takes {size:,} bytes, which the disk does not have; give another `cache_dir`"
            raise OSError(errno.ENOSPC, words, file.name) from None
        file.truncate(begin + size)
    return np.memmap(file, np.uint8, "r+", begin, shape)


def _remove_forgotten(path):
    for partial in path.parent.glob(f"{path.name}.*.partial"):
        if time.time() - partial.stat().st_mtime > _FORGOTTEN_SECONDS:
            partial.unlink(missing_ok=True)


def _check_part(original, where, images):
    if images.dtype != np.uint8 or images.shape[1:] != original.image_shape:
        raise unfit(original, where, f"it has {images.dtype} images of {images.shape[1:]}")
    if original.binary and images.max() > 1:
        raise unfit(original, where, f"it has a pixel of {images.max()}, where 0 and 1 are expected")
