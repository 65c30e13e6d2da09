"""Many runs, one after the other or several at once: each is done once, whatever happens in between."""

import functools
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
from keras_provlae.experiments.training import RESULT, execute

MODELS = "models"  # folder of checkpoints, trained models and snapshots
ATTEMPTS = 2  # of a run whose worker died
SPEAK_EVERY = 300.0  # seconds, where no run is finished in between


class FailedRunsError(RuntimeError):
    """Runs ended in an error, such as missing images; the others are done."""


def execute_all(
    runs: Iterable[Mapping[str, Any]],
    folder: str | os.PathLike,
    workers: int = 1,
    sources: Mapping[str, str] | None = None,
    say: Any = print,
) -> dict[str, dict]:
    """Executes the runs whose results are not in a folder yet.

    Each result is a line of `results.jsonl`, written when the run is finished. Killed at any moment, the same call
    goes on: what is in the file is skipped, a half-run goes on from its last checkpoint or starts again where there is
    none. (One is kept every 20 seconds, when a part of the training is over: a thirtieth, 500 steps at most.)

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
        RuntimeError: If another runner holds the folder.
        FailedRunsError: After all others are done, if runs failed.
    """
    if not isinstance(workers, int) or workers < 1:
        raise ValueError(f"`workers` must be an integer >= 1. Received: workers={workers!r}.")
    if isinstance(runs, Mapping):
        raise TypeError("`runs` must be a list of runs. Received: one dict; put it into a list.")
    wanted = {run_dicts.key(run): run_dicts.complete(run) for run in runs}
    with only_one(folder):
        done = read_results(folder)
        todo = {name: run for name, run in wanted.items() if name not in done}
        say(f"{len(wanted)} runs, {len(wanted) - len(todo)} of them done before. Results: {Path(folder)}")
        failed = _Team(folder, min(workers, len(todo)), sources or {}, say).work(todo) if todo else {}
    if failed:
        raise FailedRunsError(
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
        self.at = {}  # connection: (process, key)
        spoken = time.perf_counter()
        try:
            for _ in range(self.size):
                self._hire()
            while self.at:
                for connection in wait(list(self.at), timeout=60):
                    self._hear(connection)
                if time.perf_counter() - spoken >= SPEAK_EVERY:
                    spoken = time.perf_counter()
                    self.say(f"{self.clock.share:.0%} of all steps done · {self.clock}")
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
        self.say(f"Begun: {run_dicts.title(run)}")
        try:
            connection.send(run)
        except OSError:
            self._lost(connection)

    def _hear(self, connection):
        _, name = self.at[connection]
        try:
            kind, value = connection.recv()
        except (EOFError, OSError):
            self._lost(connection)
            return
        if kind == "progress":
            self.clock.advance(name, *value)
            return
        if kind == "result":
            append_result(self.folder, value)
            (self.folder / MODELS / name / RESULT).unlink(missing_ok=True)
            self.clock.finish(name, value)
            self.say(f"[{self.clock.done}/{self.clock.total}] {_told(value)} · {self.clock}")
        else:
            self._fail(name, value)
        self._assign(connection)

    def _lost(self, connection):
        """A worker died, for want of memory perhaps: another goes on with its run."""
        process, name = self.at.pop(connection)
        connection.close()
        process.join()
        if self.attempts[name] < ATTEMPTS:
            self.say(f"The worker of {name} died (exit code {process.exitcode}); its run goes on in another.")
            self.clock.pause(name)
            self.waiting.insert(0, (name, self.clock.runs[name]))
        else:
            self._fail(name, f"its worker died {ATTEMPTS} times, at last with exit code {process.exitcode}")
        if self.waiting:
            self._hire()

    def _fail(self, name, error):
        self.failed[name] = error
        self.clock.finish(name)
        self.say(f"[{self.clock.done}/{self.clock.total}] FAILED {name}: {error.strip().splitlines()[-1]}")


class _Clock:
    """How much is done and how long the rest will take: the steps and the scores of runs of the same kind tell."""

    def __init__(self, runs, workers, now=time.perf_counter):
        self.runs, self.workers, self.total, self.done, self.now = dict(runs), workers, len(runs), 0, now
        self.left = {name: run["iterations"] for name, run in runs.items()}  # of runs that are not finished
        self.seen = {}  # {name: (time, iteration, seconds) of its last message}
        self.trained = {}  # {kind: [seconds, steps]}
        self.scored = {}  # {kind: [seconds of the scores of each finished run]}

    def advance(self, name, iteration, seconds):
        """A run tells its steps and its seconds so far; those before its first message are not of steps alone."""
        if name in self.seen:
            _, steps, before = self.seen[name]
            spent = self.trained.setdefault(_kind(self.runs[name]), [0.0, 0])
            spent[0] += seconds["training"] - before["training"]
            spent[1] += iteration - steps
        self.seen[name] = (self.now(), iteration, seconds)
        self.left[name] = self.runs[name]["iterations"] - iteration

    def pause(self, name):
        """Its time does not count until it tells of itself again."""
        self.seen.pop(name, None)

    def finish(self, name, result=None):
        """A run is over: with its result, or `None` where it failed."""
        self.pause(name)
        del self.left[name]
        self.done += 1
        if result is not None and result["finite"]:
            self.scored.setdefault(_scored_kind(self.runs[name]), []).append(result["seconds"]["scores"])

    @property
    def share(self) -> float:
        return 1 - sum(self.left.values()) / sum(run["iterations"] for run in self.runs.values())

    def seconds_left(self) -> tuple[float | None, int]:
        """Of all runs, or of the longest if that is more, and the number of runs whose scores that does not count.

        The seconds are `None` before any step was timed. Scores were not timed where no run that scores as many
        images in the same ways is finished.
        """
        rates = {kind: seconds / steps for kind, (seconds, steps) in self.trained.items() if steps}
        if not rates:
            return None, len(self.left)
        usual = sum(rates.values()) / len(rates)
        scores = {name: self._scores_left(name) for name in self.left}
        each = [
            steps * rates.get(_kind(self.runs[name]), usual) + (scores[name] or 0.0)
            for name, steps in self.left.items()
        ]
        return max([sum(each) / self.workers, *each]), sum(seconds is None for seconds in scores.values())

    def _scores_left(self, name):
        """Seconds that the scores of a run will take yet, or `None`."""
        kind = _scored_kind(self.runs[name])
        usual = [seconds for other, each in self.scored.items() if other[-1] == kind[-1] for seconds in each]
        known = self.scored.get(kind, usual)
        if not known:
            return None
        left = sum(known) / len(known)
        if name in self.seen:
            told, _, seconds = self.seen[name]
            left -= seconds["scores"] + self.now() - told  # no message comes while a stage or the whole run is scored
        return max(left, 0.0)

    def __str__(self):
        if self.done == self.total:
            return "all done"
        seconds, unknown = self.seconds_left()
        if seconds is None:
            return "time left unknown"
        scores = f", and the scores of {unknown} of the runs, not timed yet" if unknown else ""
        return f"time left {_words(seconds)}{scores}"


def _kind(run):
    return run["model"], run["data"], run["L"], run["size"]


def _scored_kind(run):
    """The kind, and what is scored and how."""
    return _kind(run), (run["data"], run["size"], run["num_images"], tuple(run["scores"] or ()))


def _words(seconds):
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _told(result):
    seconds = result["seconds"]
    if not result["finite"]:
        return f"{run_dicts.title(result['run'])}: the loss was not finite after {result['stopped_at']} steps"
    scores = {name: result["scores"].get(name) for name in ("mig", "mig_sup", "mi_total")}
    told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if value is not None)
    spent = f"{seconds['training']:.0f} s of training and {seconds['scores']:.0f} s of scores"
    return f"{run_dicts.title(result['run'])}: {told}, {spent}"


def _worker(connection, folder, threads, sources):
    """A process that executes what it is sent until nothing comes or nobody listens."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _use_threads(threads)
    import keras

    while True:
        try:
            run = connection.recv()
        except EOFError:
            return  # there is nothing more to do
        told = functools.partial(_tell, connection)
        try:
            result = execute(run, folder, told, sources.get(run["data"]))
        except KeyboardInterrupt:
            return
        except Exception:
            connection.send(("error", traceback.format_exc()))
        else:
            connection.send(("result", result))
        keras.backend.clear_session()


def _tell(connection, *progress):
    connection.send(("progress", progress))


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

    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
