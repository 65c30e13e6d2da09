"""Checks output paths before the work starts, and replaces files atomically."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any


def check_path(name: str, path: Any) -> Path:
    """Checks that an argument is a local path.

    Args:
        name: Name of the argument, for the message.
        path: A string or a path.

    Returns:
        The path.

    Raises:
        TypeError: If it is neither a string nor a path.
        ValueError: If it is a URL.

    Example:
        >>> check_path("folder", "output/pictures").name
        'pictures'
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`{name}` must be a path. Received: {name}={path!r}.")
    if re.match(r"[A-Za-z][\w+.-]+:/", str(path)):
        raise ValueError(f"`{name}` must be a file or folder of this machine. Received: {name}={path}.")
    return Path(path)


def check_writable(what: str, folder: str | os.PathLike[str]) -> None:
    """Creates a folder and checks that files can be written to it.

    Args:
        what: Subject of the message, such as "Backups".
        folder: The folder.

    Raises:
        OSError: If it cannot be created or written to.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise OSError(
            f"{what} cannot be written to {folder}: {error}. Give a folder that can be written to."
        ) from error


def replace_text(path: Path, text: str) -> None:
    """Replaces a text file atomically: a kill leaves either the old file or the new one, whole."""
    path = Path(os.path.realpath(path))  # a symbolic link stays a link
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
