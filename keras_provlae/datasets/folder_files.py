"""Files of a folder, at any depth: links are followed, and nothing is left out without a word."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_provlae.datasets.availability import say

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif"),
)
_KINDS_SHOWN = 8


def find_images(folder: str | os.PathLike, on_bad_image: str = "error", uncounted: Sequence[str] = ()) -> list[str]:
    """Finds the images in a folder and the folders in it, and says in one line what else lies there.

    Args:
        folder: Path of the folder.
        on_bad_image: `"error"`: a folder that may not be read raises. `"skip"`: it is left out and counted.
        uncounted: Suffixes of files that belong there and are not images.

    Returns:
        A sorted list of paths.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
        OSError: If a folder in it may not be read.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"There must be a folder of images. Received: {shown(folder)!r}, which is no folder.")
    paths, left_out = [], Counter()
    for path, reason in walk(folder):
        suffix = os.path.splitext(path)[1].lower()
        if isinstance(reason, OSError):
            if on_bad_image == "error":
                raise reason
            left_out["folders that cannot be read"] += 1
        elif reason is not None:
            left_out[reason] += 1
        elif suffix in SUFFIXES:
            paths.append(path)
        elif suffix not in uncounted:
            left_out[shown(suffix) or "without a suffix"] += 1
    if not paths:
        raise FileNotFoundError(
            f"The folder {shown(folder)!r} has no image: no file that ends in {', '.join(SUFFIXES)}, at any depth. "
            f"Received: {_counted(left_out) or 'an empty folder'}."
        )
    if left_out:
        say(f"{shown(folder)}: {len(paths):,} images. Left out: {_counted(left_out)}.")
    return sorted(paths)


def _counted(kinds):
    first = kinds.most_common(_KINDS_SHOWN)
    others = kinds.total() - sum(count for _, count in first)
    return ", ".join(f"{kind} ({count:,})" for kind, count in [*first, ("others", others)] if count)


def walk(folder: str | os.PathLike) -> Iterator[tuple[str, str | OSError | None]]:
    """Walks through a folder and the folders in it, linked ones too, each folder once.

    A folder goes by its own name where there is one, else by the first of its links. Hidden files and folders, and
    `__MACOSX`, are not entered.

    Args:
        folder: Path of the folder.

    Yields:
        `(path, None)` for a file, else the path and why it is left out: a few words, or the error of a folder that
        cannot be read.
    """
    folders, links, entered = [os.fspath(folder)], [], set()
    while folders or links:
        if not folders:  # links last
            links.sort(reverse=True)
            folders.append(links.pop())
        here = folders.pop()
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in entered:
                yield here, "links to folders already read"
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                entries = list(entries)
        except OSError as error:
            yield here, error
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                yield entry.path, "hidden"
            elif entry.is_symlink() and os.path.isdir(entry.path):
                links.append(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file():
                yield entry.path, None
            else:
                yield entry.path, "broken links" if entry.is_symlink() else "no files"


def shown(path: str | os.PathLike) -> str:
    """A path as text that can be printed: bytes that are not UTF-8 as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
