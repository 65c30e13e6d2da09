"""Many runs, one after the other or several at once: each is done once, whatever happens in between."""

import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from keras_provlae.experiments import runs as run_dicts
from keras_provlae.experiments.records import append_result, only_one, read_results

MODELS = "models"  # folder of checkpoints, trained models and snapshots
ATTEMPTS = 2  # of a run whose worker died


def execute_all(
    runs: Iterable[Mapping[str, Any]],
    folder: str | os.PathLike,
    workers: int = 1,
    sources: Mapping[str, str] | None = None,
    say: Any = print,
) -> dict[str, dict]:
    """Executes the runs whose results are not in a folder yet.

    Each result is a line of `results.jsonl`, written when the run is finished. Killed at any moment, the same call
    goes on: what is in the file is skipped, a half-run goes on from its last checkpoint (a thirtieth of its training
    at most is lost) or starts again where there is none.

    Args:
        runs: Dicts as `runs.complete` takes; equal ones are executed once.
        folder: Where `results.jsonl` and the folder `models` are.
        workers: Int >= 1. Processes that train at once; they share the cores.
        sources: `{data: source}`, as the loader of a data set takes it, where it is not the `source` of the run:
            the path of what the run has the name of.
        say: Function that is called with each line about the progress.

    Returns:
        `{key: result}` of all these runs that are finished.

    Raises:
        TypeError, ValueError: If a run or `workers` is unfit; before anything is trained.
        RuntimeError: If another runner holds the folder; after all others are done, if runs failed.
    """
    if not isinstance(workers, int) or workers < 1:
        raise ValueError(f"`workers` must be an integer >= 1. Received: workers={workers!r}.")
    wanted = {run_dicts.key(run): run_dicts.complete(run) for run in runs}
    with only_one(folder):
        done = read_results(folder)
        todo = {name: run for name, run in wanted.items() if name not in done}
        say(f"{len(wanted)} runs, {len(wanted) - len(todo)} of them done before. Results: {Path(folder)}")
        failed = _Team(folder, min(workers, len(todo)), sources or {}, say).work(todo) if todo else {}
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(wanted)} runs failed; the same command tries them again. The first, "
            f"{next(iter(failed))}:\n{next(iter(failed.values()))}"
        )
    done = read_results(folder)
    return {name: done[name] for name in wanted}


class _Team:
    """Worker processes and what they are at."""

    def __init__(self, folder, size, sources, say):
        self.folder, self.size, self.sources, self.say = Path(folder), size, sources, say
        self.context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork

    def work(self, todo):
        """Does all of it; returns `{key: error}` of what failed."""
        self.waiting, self.failed, self.attempts = list(todo.items()), {}, dict.fromkeys(todo, 0)
        self.clock = _Clock(todo, self.size)
        self.at = {}  # connection: (process, key or None)
        try:
            for _ in range(self.size):
                self._hire()
            while self.at:
                for connection in wait(list(self.at), timeout=60):
                    self._hear(connection)
        finally:
            for process, _ in self.at.values():
                process.terminate()
        return self.failed

    def _hire(self):
        here, there = self.context.Pipe()
        threads = max(1, (os.cpu_count() or 1) // self.size)
        arguments = (there, str(self.folder / MODELS), threads, dict(self.sources))
        process = self.context.Process(target=_worker, args=arguments, daemon=True)
        process.start()
        there.close()
        self.at[here] = (process, None)
        self._assign(here)

    def _assign(self, connection):
        """Gives a worker the next run, or lets it go."""
        process, _ = self.at[connection]
        if not self.waiting:
            del self.at[connection]
            connection.close()
            process.join()
            return
        name, run = self.waiting.pop(0)
        self.attempts[name] += 1
        self.at[connection] = (process, name)
        self.clock.begin(name)
        connection.send(run)

    def _hear(self, connection):
        process, name = self.at[connection]
        try:
            kind, value = connection.recv()
        except EOFError:
            self._lost(connection, process, name)
            return
        if kind == "iteration":
            self.clock.advance(name, value)
            return
        if kind == "result":
            append_result(self.folder, value)
            self.clock.finish(name)
            self.say(f"[{self.clock.done}/{self.clock.total}] {_told(value)} · {self.clock}")
        else:
            self.failed[name] = value
            self.clock.drop(name)
            self.say(f"FAILED {name}: {value.strip().splitlines()[-1]}")
        self._assign(connection)

    def _lost(self, connection, process, name):
        """A worker died, for want of memory perhaps: another goes on with its run."""
        process.join()
        del self.at[connection]
        self.clock.drop(name)
        if self.attempts[name] < ATTEMPTS:
            self.say(f"The worker of {name} died (exit code {process.exitcode}); its run goes on in another.")
            run = self.clock.runs[name]
            self.waiting.insert(0, (name, run))
        else:
            self.failed[name] = f"its worker died {ATTEMPTS} times, at last with exit code {process.exitcode}"
            self.say(f"FAILED {name}: {self.failed[name]}")
        if self.waiting:
            self._hire()


class _Clock:
    """How much is done and how long the rest will take, from the seconds per step of runs of the same kind."""

    def __init__(self, runs, workers):
        self.runs, self.workers, self.total, self.done = dict(runs), workers, len(runs), 0
        self.left = {name: run["iterations"] for name, run in runs.items()}
        self.began, self.seconds = {}, {}  # {name: (time, steps left)}, {kind: [seconds, steps]}

    def begin(self, name):
        self.began[name] = (time.perf_counter(), self.left[name])

    def advance(self, name, iteration):
        self.left[name] = self.runs[name]["iterations"] - iteration

    def finish(self, name):
        begin, left = self.began.pop(name)
        spent = self.seconds.setdefault(_kind(self.runs[name]), [0.0, 0])
        spent[0] += time.perf_counter() - begin
        spent[1] += left
        self.left[name] = 0
        self.done += 1

    def drop(self, name):
        self.began.pop(name, None)
        self.left[name] = 0

    def __str__(self):
        rates = {kind: seconds / max(steps, 1) for kind, (seconds, steps) in self.seconds.items()}
        usual = sum(rates.values()) / len(rates)
        rest = sum(steps * rates.get(_kind(self.runs[name]), usual) for name, steps in self.left.items())
        return f"time left {_words(rest / self.workers)}"


def _kind(run):
    return run["model"], run["data"], run["L"], run["size"]


def _words(seconds):
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _told(result):
    seconds = sum(result["seconds"].values())
    if not result["finite"]:
        return f"{run_dicts.title(result['run'])}: the loss was not finite after {result['stopped_at']} steps"
    scores = {name: result["scores"].get(name) for name in ("mig", "mig_sup", "mi_total")}
    told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if value is not None)
    return f"{run_dicts.title(result['run'])}: {told}, {seconds:.0f} s"


def _worker(connection, folder, threads, sources):
    """A process that executes what it is sent until nothing comes or nobody listens."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _use_threads(threads)
    import keras

    from keras_provlae.experiments.training import execute

    try:
        while True:
            run = connection.recv()
            try:
                told = lambda iteration: connection.send(("iteration", iteration))  # noqa: E731
                result = execute(run, folder, told, sources.get(run["data"]))
            except (EOFError, BrokenPipeError, KeyboardInterrupt):
                raise
            except Exception:
                connection.send(("error", traceback.format_exc()))
            else:
                connection.send(("result", result))
            keras.backend.clear_session()
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # the runner is gone, or has nothing more to do


def _end_with(parent):
    """Ends this process when its runner is gone, wherever it is: what is not kept yet is done again."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _use_threads(threads):
    """Before the first operation: each worker takes its share of the cores."""
    import keras

    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads)
    import tensorflow as tf  # reads the data on every backend

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
