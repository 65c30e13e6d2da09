"""Execution of many runs in worker processes: each run finishes once, even across kills and restarts."""

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

from keras_provlae.checks import check_count
from keras_provlae.experiments import runs as run_dicts
from keras_provlae.experiments.records import append_result, only_one, read_results
from keras_provlae.experiments.training import RESULT, execute
from keras_provlae.lazy_tensorflow import tf
from keras_provlae.messages import say

MODELS = "models"  # folder for checkpoints, trained models and snapshots
ATTEMPTS = 2  # per run, if its worker dies
SAY_EVERY = 300.0  # seconds between progress lines


class FailedRunsError(RuntimeError):
    """Some runs raised an error, such as missing images; all others are finished."""


def execute_all(
    runs: Iterable[Mapping[str, Any]],
    folder: str | os.PathLike,
    workers: int = 1,
    sources: Mapping[str, str] | None = None,
    say: Any = say,
) -> dict[str, dict]:
    """Executes the runs whose results are not in a folder yet.

    Each result is appended to `results.jsonl` when its run finishes. After a kill, repeat the call to resume: finished
    runs are skipped, and an unfinished one continues from its last checkpoint, or starts again without one.
    (Checkpoints are at least 20 seconds apart, at the end of a part of the training: a thirtieth, at most 500 steps.)

    Args:
        runs: List of runs; see `runs.complete`. Duplicates are executed once.
        folder: Folder for `results.jsonl` and `models`.
        workers: Int >= 1. Number of training processes; they share the cores.
        sources: `{data: source}`: sources for the data sets' loaders, in place of the runs' own `source`: the full
            path where the run stores a name.
        say: Function called with each progress line.

    Returns:
        `{key: result}` of all these runs.

    Raises:
        TypeError, ValueError: If a run or `workers` is not allowed; raised before any training.
        RuntimeError: If another process holds the folder.
        FailedRunsError: If runs failed; raised after all others finish.
    """
    check_count("workers", workers)
    if isinstance(runs, Mapping):
        raise TypeError("`runs` must be a list of runs. Received: a dict. Pass `[run]`.")
    wanted = {run_dicts.key(run): run_dicts.complete(run) for run in runs}
    with only_one(folder):
        done = read_results(folder)
        todo = {name: run for name, run in wanted.items() if name not in done}
        say(f"{len(wanted)} runs, {len(wanted) - len(todo)} already finished. Results: {Path(folder)}")
        failed = _Team(folder, min(workers, len(todo)), sources or {}, say).work(todo) if todo else {}
    if failed:
        raise FailedRunsError(
            f"{len(failed)} of {len(wanted)} runs failed; run the same command to retry them. First error, "
            f"{next(iter(failed))}:\n{next(iter(failed.values()))}"
        )
    done = read_results(folder)
    return {name: done[name] for name in wanted}


class _Team:
    """Worker processes and the run that each is executing."""

    def __init__(self, folder, size, sources, say):
        self.folder, self.size, self.sources, self.say = Path(folder), size, sources, say
        self.context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork

    def work(self, todo):
        """Executes all runs; returns `{key: error}` of the failed ones."""
        self.waiting, self.failed, self.attempts = list(todo.items()), {}, dict.fromkeys(todo, 0)
        self.clock = _Clock(todo, self.size)
        self.current = {}  # {connection: (process, key of its run)}
        last = time.perf_counter()
        try:
            for _ in range(self.size):
                self._hire()
            while self.current:
                for connection in wait(list(self.current), timeout=60):
                    self._receive(connection)
                if time.perf_counter() - last >= SAY_EVERY:
                    last = time.perf_counter()
                    self.say(f"{self.clock.share:.0%} of all steps · {self.clock}")
        finally:
            for process, _ in self.current.values():
                process.terminate()
        return self.failed

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
        self.say(f"Started: {run_dicts.title(run)}")
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
            self.clock.advance(name, *value)
            return
        if kind == "result":
            append_result(self.folder, value)
            (self.folder / MODELS / name / RESULT).unlink(missing_ok=True)
            self.clock.finish(name, value)
            self.say(f"[{self.clock.done}/{self.clock.total}] {_summary(value)} · {self.clock}")
        else:
            self._fail(name, value)
        self._assign(connection)

    def _replace_worker(self, connection):
        """Handles the death of a worker, such as out of memory: a new one resumes its run."""
        process, name = self.current.pop(connection)
        connection.close()
        process.join()
        if self.attempts[name] < ATTEMPTS:
            self.say(f"The worker of {name} died (exit code {process.exitcode}); a new one resumes its run.")
            self.clock.pause(name)
            self.waiting.insert(0, (name, self.clock.runs[name]))
        else:
            self._fail(name, f"its worker died {ATTEMPTS} times, last with exit code {process.exitcode}")
        if self.waiting:
            self._hire()

    def _fail(self, name, error):
        self.failed[name] = error
        self.clock.finish(name)
        self.say(f"[{self.clock.done}/{self.clock.total}] FAILED {name}: {error.strip().splitlines()[-1]}")


class _Clock:
    """Progress and time left, estimated from the steps and scores of runs of the same kind."""

    def __init__(self, runs, workers, now=time.perf_counter):
        self.runs, self.workers, self.total, self.done, self.now = dict(runs), workers, len(runs), 0, now
        self.left = {name: run["iterations"] for name, run in runs.items()}  # steps left of unfinished runs
        self.seen = {}  # {name: (time, iteration, seconds) of its last report}
        self.trained = {}  # {kind: [seconds, steps]}
        self.scored = {}  # {kind: [seconds of the scores of each finished run]}

    def advance(self, name, iteration, seconds):
        """Records a progress report. Seconds before a run's first report are not used: they include compilation."""
        if name in self.seen:
            _, steps, before = self.seen[name]
            spent = self.trained.setdefault(_kind(self.runs[name]), [0.0, 0])
            spent[0] += seconds["training"] - before["training"]
            spent[1] += iteration - steps
        self.seen[name] = (self.now(), iteration, seconds)
        self.left[name] = self.runs[name]["iterations"] - iteration

    def pause(self, name):
        """Stops a run's clock until its next report."""
        self.seen.pop(name, None)

    def finish(self, name, result=None):
        """Records the end of a run, with its result or `None` if it failed."""
        self.pause(name)
        del self.left[name]
        self.done += 1
        if result is not None and result["finite"]:
            self.scored.setdefault(_scored_kind(self.runs[name]), []).append(result["seconds"]["scores"])

    @property
    def share(self) -> float:
        return 1 - sum(self.left.values()) / sum(run["iterations"] for run in self.runs.values())

    def seconds_left(self) -> tuple[float | None, int]:
        """Returns the seconds left and the number of runs whose scores they leave out.

        The seconds are those of the longest run if that is more than an equal share of the work, and `None` before
        any step was timed. Scores are left out until a run with the same images and scores is finished.
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
        """Returns the seconds left for the scores of a run, or `None` if unknown."""
        kind = _scored_kind(self.runs[name])
        usual = [seconds for other, each in self.scored.items() if other[-1] == kind[-1] for seconds in each]
        known = self.scored.get(kind, usual)
        if not known:
            return None
        left = sum(known) / len(known)
        if name in self.seen:
            reported, _, seconds = self.seen[name]
            left -= seconds["scores"] + self.now() - reported  # no reports arrive during scoring
        return max(left, 0.0)

    def __str__(self):
        if self.done == self.total:
            return "all finished"
        seconds, unknown = self.seconds_left()
        if seconds is None:
            return "time left unknown"
        scores = f", plus the scores of {unknown} runs, not timed yet" if unknown else ""
        return f"time left {_duration(seconds)}{scores}"


def _kind(run):
    return run["model"], run["data"], run["L"], run["size"]


def _scored_kind(run):
    """Returns the kind of a run, and its images and scores."""
    return _kind(run), (run["data"], run["size"], run["num_images"], tuple(run["scores"] or ()))


def _duration(seconds):
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _summary(result):
    seconds = result["seconds"]
    if not result["finite"]:
        return f"{run_dicts.title(result['run'])}: loss not finite after {result['stopped_at']} steps"
    scores = {name: result["scores"].get(name) for name in ("mig", "mig_sup", "mi_total")}
    shown = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if value is not None)
    spent = f"training {seconds['training']:.0f} s, scores {seconds['scores']:.0f} s"
    return f"{run_dicts.title(result['run'])}: {shown}, {spent}"


def _worker(connection, folder, threads, sources):
    """Executes the runs received over a connection until it closes or the parent process is gone."""
    threading.Thread(target=_exit_with, args=(os.getppid(),), daemon=True).start()
    _use_threads(threads)
    import keras

    while True:
        try:
            run = connection.recv()
        except EOFError:
            return
        report = functools.partial(_report, connection)
        try:
            result = execute(run, folder, report, sources.get(run["data"]))
        except KeyboardInterrupt:
            return
        except Exception:
            connection.send(("error", traceback.format_exc()))
        else:
            connection.send(("result", result))
        keras.backend.clear_session()


def _report(connection, *progress):
    connection.send(("progress", progress))


def _exit_with(parent):
    """Exits this process when its parent is gone; the last checkpoint is enough to resume."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _use_threads(threads):
    """Limits a worker to its share of the cores; call it before the first operation."""
    import keras

    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads)
    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
