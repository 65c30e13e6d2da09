"""Execution of many runs: each run finishes once, even across kills and restarts.

By default in processes of this machine. Neither the standard library's pool nor loky's keeps what these do: both break
as a whole when one worker dies, so that the others' runs stop too, and neither reports progress before a task ends.
"""

import functools
import multiprocessing
import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from keras_provlae.checks import check_count
from keras_provlae.experiments import executors
from keras_provlae.experiments import runs as run_dicts
from keras_provlae.experiments.child import attempted, exit_with, use_threads
from keras_provlae.experiments.progress import Book
from keras_provlae.experiments.records import MODELS, RESULTS, only_one, read_results
from keras_provlae.experiments.training import execute
from keras_provlae.messages import say

ATTEMPTS = 2  # per run, if its worker dies


class FailedRunsError(RuntimeError):
    """Some runs raised an error, such as missing images; all others are finished."""


def execute_all(
    runs: Iterable[Mapping[str, Any]],
    folder: str | os.PathLike,
    workers: int = 1,
    sources: Mapping[str, str] | None = None,
    say: Any = say,
    executor: Executor | None = None,
    shard: tuple[int, int] | None = None,
) -> dict[str, dict]:
    """Executes the runs whose results are not in a folder yet.

    Each result is appended to `results.jsonl` when its run finishes. After a kill, repeat the call to resume: finished
    runs are skipped, and an unfinished one continues from its last checkpoint, or starts again without one.
    (Checkpoints are at least 20 seconds apart, at the end of a part of the training: a thirtieth, at most 500 steps.)

    Args:
        runs: List of runs; see `runs.complete`. Duplicates are executed once.
        folder: Folder for `results.jsonl` and `models`.
        workers: Int >= 1. Number of training processes; they share the cores. With an `executor`: how many it trains
            at once, which only the estimate of the time left needs.
        sources: `{data: source}`: sources for the data sets' loaders, in place of the runs' own `source`: the full
            path where the run stores a name.
        say: Function called with each progress line.
        executor: A `concurrent.futures.Executor` to train on, such as `distributed.Client(address).get_executor()`;
            `None` means processes of this machine. Its workers need this package and, to continue lost runs, this
            folder under the same path; see `executors`.
        shard: `(i, n)` with 1 <= i <= n: only every n-th run, from the i-th of the list on. Processes with different
            shards may share a folder; each writes `results_i_of_n.jsonl`.

    Returns:
        `{key: result}` of all these runs, of the shard's with `shard`.

    Raises:
        TypeError, ValueError: If a run or another argument is not allowed; raised before any training.
        RuntimeError: If another process holds the folder, or the executor is lost (`executors.LostExecutorError`).
        FailedRunsError: If runs failed; raised after all others finish.
    """
    check_count("workers", workers)
    if isinstance(runs, Mapping):
        raise TypeError("`runs` must be a list of runs. Received: a dict. Pass `[run]`.")
    wanted = {run_dicts.key(run): run_dicts.complete(run) for run in runs}
    name, lock = RESULTS, ".lock"
    if shard is not None:
        index, count = check_shard(shard)
        wanted = dict(list(wanted.items())[index - 1 :: count])
        name, lock = f"results_{index}_of_{count}.jsonl", f".lock_{index}_of_{count}"
    folder, sources = Path(folder), sources or {}
    with only_one(folder, name=lock):
        done = read_results(folder)
        todo = {name: run for name, run in wanted.items() if name not in done}
        say(f"{len(wanted)} runs, {len(wanted) - len(todo)} already finished. Results: {folder}")
        failed = {}
        if todo:
            workers = min(workers, len(todo))
            book = Book(folder, todo, workers, say, name)
            if executor is None:
                failed = _Team(folder, workers, sources, book).work(todo)
            else:
                failed = executors.work(executor, todo, book, folder / MODELS, sources)
    if failed:
        raise FailedRunsError(
            f"{len(failed)} of {len(wanted)} runs failed; run the same command to retry them. First error, "
            f"{next(iter(failed))}:\n{next(iter(failed.values()))}"
        )
    done = read_results(folder)
    return {name: done[name] for name in wanted}


def check_shard(shard: tuple[int, int]) -> tuple[int, int]:
    """Returns `(i, n)` as ints, 1 <= i <= n.

    Raises:
        ValueError: If it is not that.

    Example:
        >>> check_shard((2, 4))
        (2, 4)
    """
    index, count = shard
    check_count("the number of shards", count)
    check_count("the shard", index)
    if index > count:
        raise ValueError(f"A shard is i of n with i <= n. Received: {index} of {count}.")
    return int(index), int(count)


class _Team:
    """Worker processes and the run that each is executing."""

    def __init__(self, folder, size, sources, book):
        self.folder, self.size, self.sources, self.book = folder, size, sources, book
        self.context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork

    def work(self, todo):
        """Executes all runs; returns `{key: error}` of the failed ones."""
        self.waiting, self.attempts = list(todo.items()), dict.fromkeys(todo, 0)
        self.current = {}  # {connection: (process, key of its run)}
        try:
            for _ in range(self.size):
                self._hire()
            while self.current:
                for connection in wait(list(self.current), timeout=60):
                    self._receive(connection)
                self.book.say_progress()
        finally:
            for process, _ in self.current.values():
                process.terminate()
        return self.book.failed

    def _hire(self):
        here, there = self.context.Pipe()
        threads = max(1, (os.cpu_count() or 1) // self.size)
        arguments = (there, str(self.folder / MODELS), threads, dict(self.sources))
        process = self.context.Process(target=_worker, args=arguments, daemon=True)
        process.start()
        there.close()
        self.current[here] = (process, None)
        self._assign(here)

    def _assign(self, connection):
        """Gives a worker the next run, or closes its connection so that it exits."""
        process, _ = self.current[connection]
        if not self.waiting:
            del self.current[connection]
            connection.close()
            process.join()
            return
        name, run = self.waiting.pop(0)
        self.attempts[name] += 1
        self.current[connection] = (process, name)
        self.book.started(name)
        try:
            connection.send(run)
        except OSError:
            self._replace_worker(connection)

    def _receive(self, connection):
        _, name = self.current[connection]
        try:
            kind, value = connection.recv()
        except (EOFError, OSError):
            self._replace_worker(connection)
            return
        if kind == "progress":
            self.book.clock.advance(name, *value)
            return
        if kind == "result":
            self.book.finished(name, value)
        else:
            self.book.fail(name, value)
        self._assign(connection)

    def _replace_worker(self, connection):
        """Handles the death of a worker, such as out of memory: a new one resumes its run."""
        process, name = self.current.pop(connection)
        connection.close()
        process.join()
        if self.attempts[name] < ATTEMPTS:
            self.book.say(f"The worker of {name} died (exit code {process.exitcode}); a new one resumes its run.")
            self.book.clock.pause(name)
            self.waiting.insert(0, (name, self.book.clock.runs[name]))
        else:
            self.book.fail(name, f"its worker died {ATTEMPTS} times, last with exit code {process.exitcode}")
        if self.waiting:
            self._hire()


def _worker(connection, folder, threads, sources):
    """Executes the runs received over a connection until it closes or the parent process is gone."""
    threading.Thread(target=exit_with, args=(os.getppid(),), daemon=True).start()
    use_threads(threads)
    while True:
        try:
            run = connection.recv()
        except EOFError:
            return
        report = functools.partial(_report, connection)
        try:
            connection.send(attempted(execute, run, folder, report, sources.get(run["data"])))
        except KeyboardInterrupt:
            return


def _report(connection, *progress):
    connection.send(("progress", progress))
