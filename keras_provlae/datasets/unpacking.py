"""Unpacks a data set once into a memory-mapped array on disk, for random access to single images.

The official files are compressed as a whole (dSprites) or in blocks (3DShapes), and tensorflow-datasets stores shuffled
records.
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

from keras_provlae.datasets.official_files import Original, not_as_published
from keras_provlae.messages import say

_STALE_SECONDS = 3600  # a partial file untouched for this long was left by a killed process


def unpacked(
    original: Original, where: Path | str, version: str, read: Callable[[], Iterable], folder: Path
) -> np.ndarray:
    """Returns the memory-mapped images; unpacks them first if necessary.

    Args:
        original: Published data set that the images must match.
        where: Location of the source; it and `version` determine the name of the unpacked file.
        version: Text that changes when the source does. Unpacked files of other versions are removed.
        read: Yields parts: grid indices `(part,)` and uint8 images `(part, height, width, channels)`.
        folder: Folder of the unpacked files.

    Returns:
        Memory-mapped uint8 array `(n, height, width, channels)`, or `(n, bytes)` of packed bits for binary images.

    Raises:
        ValueError: If the source is incomplete or not the published data; no file is left behind.
        OSError: If the disk is full.
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
    """Opens the array in a file; returns `None` if it is missing or damaged."""
    try:
        images = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        return None
    except (ValueError, EOFError):
        images = None
    if images is None or images.shape != shape or images.dtype != np.uint8:
        say(f"{path} is damaged; unpacking again.")
        return None
    return images


def _unpack(original, where, parts, path, shape):
    _remove_stale(path)
    say(f"{original.name}: unpacking {where} once to {path} ({math.prod(shape) / 1e9:.1f} GB) ...")
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
            raise not_as_published(original, where, f"{len(seen) - seen.sum():,} missing images")
        rows.flush()
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _reserved(file, shape):
    """Maps a new npy file with all its space reserved, since running out of disk later would crash the process."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    begin, size = file.tell(), math.prod(shape)
    file.flush()
    try:
        os.posix_fallocate(file.fileno(), begin, size)
    except (AttributeError, OSError) as error:  # not available on every system
        if getattr(error, "errno", None) == errno.ENOSPC:
            message = f"Unpacking needs {size:,} bytes of free disk space. Pass another `cache_dir`"
            raise OSError(errno.ENOSPC, message, file.name) from None
        file.truncate(begin + size)
    return np.memmap(file, np.uint8, "r+", begin, shape)


def _remove_stale(path):
    for partial in path.parent.glob(f"{path.name}.*.partial"):
        if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
            partial.unlink(missing_ok=True)


def _check_part(original, where, images):
    if images.dtype != np.uint8 or images.shape[1:] != original.image_shape:
        raise not_as_published(original, where, f"{images.dtype} images of {images.shape[1:]}")
    if original.binary and images.max() > 1:
        raise not_as_published(original, where, f"pixels of 0 .. {images.max()} instead of 0 and 1")
