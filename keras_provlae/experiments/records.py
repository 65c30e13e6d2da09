"""Results of runs: a file of JSON lines that stays readable if the process is killed at any moment."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RESULTS = "results.jsonl"
MODELS = "models"  # folder for checkpoints, trained models and snapshots
BLOCK = 2**16  # bytes


def read_results(folder: str | os.PathLike) -> dict[str, dict]:
    """Reads the results in a folder: of `results.jsonl`, and of `results_1_of_4.jsonl` and so on, which shards write.

    Args:
        folder: Folder of the files. Without them there are no results.

    Returns:
        `{key of the run: result}`, in file order, without truncated last lines.

    Raises:
        ValueError: If any other line is not JSON or not a result.

    Example:
        >>> read_results("no such folder")
        {}
    """
    results = {}
    for path in sorted(Path(folder).glob("results*.jsonl")):
        lines = path.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines[:-1], start=1):  # a truncated line has no line break
            try:
                result = json.loads(line)
                results[result["key"]] = result
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(
                    f"Line {number} of {path} is not a valid result ({error}). Fix or delete it."
                ) from None
    return results


def append_result(folder: str | os.PathLike, result: Mapping[str, Any], name: str = RESULTS) -> None:
    """Appends a result to a file of results, after removing a truncated last line.

    Args:
        folder: Folder of the file.
        result: A dict with `key` that JSON can hold: no NaN, which JSON does not define.
        name: Name of the file.

    Raises:
        ValueError: If a number is not finite.
    """
    line = json.dumps(result, allow_nan=False)
    with (Path(folder) / name).open("ab+") as file:
        file.truncate(_end_of_last_line(file))
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _end_of_last_line(file):
    """Returns the position after the last line break, reading from the end: a file of results can be large."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - BLOCK)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


@contextlib.contextmanager
def only_one(folder: str | os.PathLike, wait: bool = False, name: str = ".lock") -> Iterator[None]:
    """Locks a folder for one process: a second would do the same work and overwrite the same files.

    Args:
        folder: Created if missing.
        wait: Bool. True waits until the lock is free; false raises if it is taken.
        name: Name of the lock's file: processes that use other files of the folder have locks of their own.

    Raises:
        RuntimeError: If another process holds the lock and `wait` is false.
    """
    import fcntl  # Linux and macOS only

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with (path / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise RuntimeError(f"Another process is using {path}. Wait for it, or choose another folder.") from None
        yield
