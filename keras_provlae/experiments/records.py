"""Results of runs: a file of JSON lines that stays readable if the process is killed at any moment."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NAME = "results.jsonl"


def read_results(folder: str | os.PathLike) -> dict[str, dict]:
    """Reads the results in a folder.

    Args:
        folder: Folder of `results.jsonl`. Without that file there are no results.

    Returns:
        `{key of the run: result}`, in file order, without a truncated last line.

    Raises:
        ValueError: If any other line is not JSON or not a result.

    Example:
        >>> read_results("no such folder")
        {}
    """
    path = Path(folder) / NAME
    if not path.exists():
        return {}
    results = {}
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):  # a truncated line has no line break
        try:
            result = json.loads(line)
            results[result["key"]] = result
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"Line {number} of {path} is not a valid result ({error}). Fix or delete it.") from None
    return results


def append_result(folder: str | os.PathLike, result: Mapping[str, Any]) -> None:
    """Appends a result to `results.jsonl`, after removing a truncated last line.

    Args:
        folder: Folder of `results.jsonl`.
        result: A dict with `key` that JSON can hold: no NaN, which JSON does not define.

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
    """Locks a folder for one process: a second would do the same work and overwrite the same files.

    Args:
        folder: Created if missing.
        wait: Bool. True waits until the lock is free; false raises if it is taken.

    Raises:
        RuntimeError: If another process holds the lock and `wait` is false.
    """
    import fcntl  # Linux and macOS only

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise RuntimeError(f"Another process is using {path}. Wait for it, or choose another folder.") from None
        yield
