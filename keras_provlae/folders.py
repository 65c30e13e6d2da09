"""Where results go: a path that cannot be written to is found before the work, not after it."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any


def check_path(name: str, path: Any) -> Path:
    """Checks that an argument is a path of this machine.

    Args:
        name: Name of the argument, for the message.
        path: A string or a path.

    Returns:
        The path.

    Raises:
        TypeError: If it is neither.
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


def check_writable(what: str, folder: str | os.PathLike) -> None:
    """Makes a folder, and checks that files can be written into it.

    Args:
        what: What goes there, for the message: "Backups".
        folder: The folder.

    Raises:
        OSError: If it cannot be made or written to.
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
    """Writes a text file beside an older one and puts it in its place: a kill leaves the one or the other, whole."""
    path = Path(os.path.realpath(path))  # a link stays one
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
