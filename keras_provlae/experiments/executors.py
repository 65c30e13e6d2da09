"""Runs on any `concurrent.futures.Executor`: pools of processes, or a cluster through Dask's `client.get_executor()`.

A worker trains one run and returns its result. If it sees the caller's folder, checkpoints and files go there, so
another worker can continue a lost run; if not, it trains in a folder of its own machine and the files come back with
the result.
"""

import json
import os
import queue
import secrets
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from pathlib import Path

from keras_provlae.experiments.child import Child
from keras_provlae.experiments.progress import Book
from keras_provlae.experiments.training import HALF_LOG

SEEN = ".caller"  # file in the folder of models by which a worker knows that it is the caller's
LOOK_EVERY = 20.0  # seconds between looks at the checkpoints' logs
SCRATCH = "keras_provlae_runs"  # in the temporary folder of a machine that does not see the caller's

_own = threading.local()  # each thread of a worker has a process of its own


class LostExecutorError(RuntimeError):
    """The executor broke, or its scheduler is gone, before all runs were finished."""


def train_run(run: dict, models: str, token: str, source: str | None) -> tuple[dict, dict[str, bytes]]:
    """Trains and scores one run on a worker, in a process of its own.

    Args:
        run: A complete run.
        models: Path of the caller's folder of models.
        token: Content of the file `SEEN` there.
        source: Source for the data set's loader; `None` means the run's own.

    Returns:
        The result of `training.execute`, and `{name: content}` of the run's files, empty if they are in `models`.

    Raises:
        RuntimeError: If the run failed, or its process died.
    """
    if not hasattr(_own, "child"):
        _own.child = Child()
    seen = Path(models) / SEEN
    if seen.exists() and seen.read_text() == token:
        return _own.child.execute(run, models, source), {}
    scratch = Path(tempfile.gettempdir()) / SCRATCH
    result = _own.child.execute(run, str(scratch), source)
    own = scratch / result["key"]
    files = {path.name: path.read_bytes() for path in own.iterdir() if path.suffix in (".keras", ".npz")}
    shutil.rmtree(own)
    return result, files


def work(
    executor: Executor, todo: Mapping[str, dict], book: Book, models: Path, sources: Mapping[str, str]
) -> dict[str, str]:
    """Executes runs on an executor and writes each result as it comes.

    Args:
        executor: Where to train. Its workers need this package.
        todo: `{key: run}`.
        book: Where results and failures go.
        models: The caller's folder of models.
        sources: `{data: source}`, for the workers' own paths.

    Returns:
        `{key: error}` of the runs that failed.

    Raises:
        TypeError: If `executor` is not an executor.
        LostExecutorError: If the executor is gone.
    """
    if not isinstance(executor, Executor):
        raise TypeError(
            "`executor` must be a concurrent.futures.Executor, such as Dask's client.get_executor(). "
            f"Received: {type(executor).__name__}."
        )
    models.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(16)
    (models / SEEN).write_text(token)
    ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
    running: dict[Future, str] = {}
    try:
        for name, run in todo.items():
            future = executor.submit(train_run, run, str(models.resolve()), token, sources.get(run["data"]))
            running[future] = name
            future.add_done_callback(ended.put)
        looked = time.perf_counter()
        while running:
            try:
                future = ended.get(timeout=LOOK_EVERY)
                _receive(future, running.pop(future), book, models)
            except queue.Empty:
                pass
            if time.perf_counter() - looked >= LOOK_EVERY:
                looked = time.perf_counter()
                _look(running.values(), book, models)
            book.say_progress()
    finally:
        for future in running:
            future.cancel()
    return book.failed


def _receive(future, name, book, models):
    """Keeps the result or the error of a run that ended."""
    try:
        result, files = future.result()
    except (BrokenExecutor, CancelledError) as error:
        raise LostExecutorError(
            f"The executor is gone ({type(error).__name__}: {error}) with {len(book.clock.left)} runs to do. "
            "Run the same command to go on."
        ) from error
    except Exception as error:
        book.fail(name, "".join(traceback.format_exception(error)))
        return
    for file, content in files.items():
        (models / name).mkdir(exist_ok=True)
        (models / name / file).write_bytes(content)
    book.finished(name, result)


def _look(names, book, models):
    """Reads how far the runs are from their checkpoints, where this machine sees them."""
    for name in set(names) & set(os.listdir(models)):
        try:
            log = json.loads((models / name / HALF_LOG).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            continue
        iteration = log["variance"][-1][0]
        if iteration != book.clock.seen.get(name, (0, 0))[1]:
            book.clock.advance(name, iteration, log["seconds"])
