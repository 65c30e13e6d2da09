"""Reader for idx files, the format of MNIST and its relatives."""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

_PREFIXES = {"train": "train", "test": "t10k"}
_UINT8 = 0x08


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """Reads an idx file of unsigned bytes.

    Args:
        path: Path of the file, gzip-compressed if it ends in `.gz`.

    Returns:
        uint8 array of the shape declared in the file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is corrupt, truncated or not idx; the message gives its path.

    Source: the description beside the MNIST files (LeCun et al., 1998).
    """
    path = Path(path)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a complete gzip file: {error}. Download it again.") from None
    rank = content[3] if len(content) >= 4 else 0
    header = 4 + 4 * rank
    if content[:3] != bytes([0, 0, _UINT8]) or not rank or len(content) < header:
        raise ValueError(f"{path} must be an idx file of unsigned bytes. Received: a file starting {content[:4]!r}.")
    shape = tuple(np.frombuffer(content[4:header], ">u4").tolist())
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"{path} is truncated or corrupt: its header declares {shape}, {math.prod(shape)} bytes of data. "
            f"Received: {len(content) - header} bytes."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def load_idx_folder(folder: str | os.PathLike, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the images and labels of one split from a folder with MNIST's four files.

    Args:
        folder: Path of the folder. File names as published, such as `train-images-idx3-ubyte`, optionally with a
            dot instead of the last dash, and with `.gz` if compressed.
        split: `"train"` or `"test"`.

    Returns:
        `(images, labels)`, uint8 arrays `(n, height, width)` and `(n,)`.

    Raises:
        FileNotFoundError: If the folder or a file is missing; the message lists the accepted names.
        ValueError: If `split` is unknown, a file is corrupt, or the labels do not match the images.
    """
    if split not in _PREFIXES:
        raise ValueError(f"`split` must be one of {tuple(_PREFIXES)}. Received: split={split!r}.")
    images_path = _find(folder, f"{_PREFIXES[split]}-images", "idx3-ubyte")
    labels_path = _find(folder, f"{_PREFIXES[split]}-labels", "idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.shape != images.shape[:1] or not images.size:
        raise ValueError(
            f"{images_path} and {labels_path} must contain (n, height, width) images and n labels, n >= 1. "
            f"Received: {images.shape} and {labels.shape}."
        )
    return images, labels


def _find(folder, name, kind):
    candidates = [Path(folder) / f"{name}{dot}{kind}{gz}" for dot in "-." for gz in ("", ".gz")]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"No file {name}-{kind} in the folder {os.fspath(folder)!r}. "
        f"Accepted names: {', '.join(path.name for path in candidates)}."
    )
