"""Checks the declared size of PNG and JPEG files before they are decoded."""

import contextlib
import itertools
import struct

import numpy as np
import tensorflow as tf

from .tensors import BadRequestError


def check_pixels(arrays: dict[str, np.ndarray], limit: int) -> None:
    """Checks that the images of a request are not too large: a small file may hold a huge image.

    Args:
        arrays: Inputs by name; only arrays of bytes are checked.
        limit: Maximum number of pixels that all PNG and JPEG files together may declare.

    Raises:
        BadRequestError: If they declare more; the message names the item that exceeds the limit.
    """
    files = [
        (name, item, file)
        for name, array in arrays.items()
        if array.dtype == object
        for item, file in enumerate(array.flat)
    ]
    totals = itertools.accumulate(declared_pixels(file) for _, _, file in files)
    for (name, item, _), total in zip(files, totals, strict=True):
        if total > limit:
            raise BadRequestError(
                f"The images of a request may have at most {limit} pixels together. Received: {total} up to item "
                f"{item} of `{name}`, counted from 0."
            )


def declared_pixels(file: bytes) -> int:
    """Returns height x width; 0 for other or broken files, which the graph rejects."""
    if file.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", file.ljust(24, b"\0"), 16)
        return width * height
    with contextlib.suppress(tf.errors.InvalidArgumentError):
        if file.startswith(b"\xff\xd8\xff"):
            height, width, _ = tf.io.extract_jpeg_shape(file).numpy().tolist()
            return width * height
    return 0
