"""Lists the image files of a folder at any depth, and reports what it skips."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_provlae.messages import say

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif"),
)
_KINDS_SHOWN = 8


def find_images(folder: str | os.PathLike, on_bad_image: str = "error", uncounted: Sequence[str] = ()) -> list[str]:
    """Finds the images in a folder and its subfolders; prints one line that counts the skipped files.

    Args:
        folder: Path of the folder.
        on_bad_image: `"error"`: an unreadable subfolder raises. `"skip"`: it is skipped and counted.
        uncounted: Suffixes of other files to skip without counting them.

    Returns:
        Sorted list of paths.

    Raises:
        FileNotFoundError: If the folder is missing or has no image.
        OSError: If a subfolder cannot be read.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"The source must be a folder. Received: {shown(folder)!r}, which is not a folder.")
    paths: list[str] = []
    skipped: Counter[str] = Counter()
    for path, reason in walk(folder):
        suffix = os.path.splitext(path)[1].lower()
        if isinstance(reason, OSError):
            if on_bad_image == "error":
                raise reason
            skipped["unreadable folders"] += 1
        elif reason is not None:
            skipped[reason] += 1
        elif suffix in SUFFIXES:
            paths.append(path)
        elif suffix not in uncounted:
            skipped[shown(suffix) or "no suffix"] += 1
    if not paths:
        raise FileNotFoundError(
            f"The folder {shown(folder)!r} must contain images: files ending in {', '.join(SUFFIXES)}, at any depth. "
            f"Received: {_counted(skipped) or 'an empty folder'}."
        )
    if skipped:
        say(f"{shown(folder)}: {len(paths):,} images. Skipped: {_counted(skipped)}.")
    return sorted(paths)


def _counted(kinds):
    top = kinds.most_common(_KINDS_SHOWN)
    others = kinds.total() - sum(count for _, count in top)
    return ", ".join(f"{kind} ({count:,})" for kind, count in [*top, ("others", others)] if count)


def walk(folder: str | os.PathLike) -> Iterator[tuple[str, str | OSError | None]]:
    """Walks a folder tree, including linked folders, and visits each folder once.

    A folder reached several ways keeps its real path if that is in the tree, else the path of its first link. Hidden
    files and folders, and `__MACOSX`, are skipped.

    Args:
        folder: Path of the folder.

    Yields:
        `(path, None)` for a file; for anything skipped, the path and the reason: a short text, or the `OSError` of an
        unreadable folder.
    """
    folders, entered = [os.fspath(folder)], set()
    links: list[str] = []
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
                yield entry.path, "broken links" if entry.is_symlink() else "special files"


def shown(path: str | os.PathLike) -> str:
    """Returns a path as printable text, with non-UTF-8 bytes as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
