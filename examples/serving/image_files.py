"""What PNG and JPEG files say of their size, before anything is decoded."""

import contextlib
import itertools
import struct

import numpy as np
import tensorflow as tf

from .tensors import BadRequestError


def check_pixels(arrays: dict[str, np.ndarray], most: int) -> None:
    """Refuses images that are too large together: a small file may hold a huge image.

    Args:
        arrays: Inputs by name; those of strings are looked at.
        most: Pixels that PNG and JPEG files may declare together.

    Raises:
        BadRequestError: If they declare more; it names the item that does.
    """
    files = [
        (name, item, file)
        for name, array in arrays.items()
        if array.dtype == object
        for item, file in enumerate(array.flat)
    ]
    totals = itertools.accumulate(declared_pixels(file) for _, _, file in files)
    for (name, item, _), total in zip(files, totals, strict=True):
        if total > most:
            raise BadRequestError(
                f"The images of a request may have at most {most} pixels together. Received: {total} up to item {item} "
                f"of `{name}`, counted from 0."
            )


def declared_pixels(file: bytes) -> int:
    """Height times width; 0 for what is no PNG or JPEG file, or a broken one, which the graph refuses."""
    if file.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", file.ljust(24, b"\0"), 16)
        return width * height
    with contextlib.suppress(tf.errors.InvalidArgumentError):
        if file.startswith(b"\xff\xd8\xff"):
            height, width, _ = tf.io.extract_jpeg_shape(file).numpy().tolist()
            return width * height
    return 0
