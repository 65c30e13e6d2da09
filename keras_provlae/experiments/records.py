"""Results of runs, one JSON line each, in a file that a kill at any moment leaves readable."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NAME = "results.jsonl"


def read_results(folder: str | os.PathLike) -> dict[str, dict]:
    """The results in a folder.

    Args:
        folder: With a file `results.jsonl`, or without: then there are none.

    Returns:
        `{key of the run: result}`, in the order of the lines. A last line that was cut off is left out.

    Raises:
        ValueError: If another line is not JSON, or no result.

    Example:
        >>> read_results("no such folder")
        {}
    """
    path = Path(folder) / NAME
    if not path.exists():
        return {}
    results = {}
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line break was cut off
        try:
            result = json.loads(line)
            results[result["key"]] = result
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"Line {number} of {path} is no result of a run ({error}). Mend or delete it.") from None
    return results


def append_result(folder: str | os.PathLike, result: Mapping[str, Any]) -> None:
    """Adds a result as a line; a line that was cut off before is removed.

    Args:
        folder: Where `results.jsonl` is or will be.
        result: A dict for JSON with `key`. NaN is refused: other readers of JSON do not know it.

    Raises:
        ValueError: If a number is not finite.
    """
    line = json.dumps(result, allow_nan=False)
    path = Path(folder) / NAME
    with path.open("ab+") as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def only_one(folder: str | os.PathLike, wait: bool = False) -> Iterator[None]:
    """Holds a folder for one process, a runner or a training: a second would do the same and write the same files.

    Args:
        folder: Made if it is not there.
        wait: Bool. Whether to wait for a process that holds it, or to refuse.

    Raises:
        RuntimeError: If another holds it and `wait` is false.
    """
    import fcntl  # of Linux and macOS

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise RuntimeError(f"Another runner works in {path}. Wait for it, or give another folder.") from None
        yield
