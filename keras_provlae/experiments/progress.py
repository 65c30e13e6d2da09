"""Progress of many runs: what is finished, what failed, and the time that is left."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_provlae.experiments.records import MODELS, RESULTS, append_result
from keras_provlae.experiments.runs import title
from keras_provlae.experiments.training import RESULT

SAY_EVERY = 300.0  # seconds between progress lines


class Book:
    """Writes results as they come, says so, and remembers failures.

    Args:
        folder: Folder of the results.
        todo: `{key: run}` of all runs to do.
        workers: How many train at once, for the time left.
        say: Function called with each progress line.
        name: Name of the file of results.
    """

    def __init__(
        self,
        folder: Path,
        todo: Mapping[str, dict],
        workers: int,
        say: Callable[[str], None],
        name: str = RESULTS,
    ) -> None:
        self.folder, self.say, self.name = folder, say, name
        self.clock = Clock(todo, workers)
        self.failed: dict[str, str] = {}
        self._said = time.perf_counter()

    def started(self, name: str) -> None:
        self.say(f"Started: {title(self.clock.runs[name])}")

    def finished(self, name: str, result: Mapping[str, Any]) -> None:
        append_result(self.folder, result, self.name)
        (self.folder / MODELS / name / RESULT).unlink(missing_ok=True)
        self.clock.finish(name, result)
        self.say(f"[{self.clock.done}/{self.clock.total}] {_summary(result)} · {self.clock}")

    def fail(self, name: str, error: str) -> None:
        self.failed[name] = error
        self.clock.finish(name)
        self.say(f"[{self.clock.done}/{self.clock.total}] FAILED {name}: {error.strip().splitlines()[-1]}")

    def say_progress(self) -> None:
        """Says how far the runs are, at most every `SAY_EVERY` seconds."""
        if time.perf_counter() - self._said >= SAY_EVERY:
            self._said = time.perf_counter()
            self.say(f"{self.clock.share:.0%} of all steps · {self.clock}")


def _summary(result):
    seconds = result["seconds"]
    if not result["finite"]:
        return f"{title(result['run'])}: loss not finite after {result['stopped_at']} steps"
    scores = {name: result["scores"].get(name) for name in ("mig", "mig_sup", "mi_total")}
    shown = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if value is not None)
    spent = f"training {seconds['training']:.0f} s, scores {seconds['scores']:.0f} s"
    return f"{title(result['run'])}: {shown}, {spent}"


class Clock:
    """Progress and time left, estimated from the steps and scores of runs of the same kind."""

    def __init__(self, runs: Mapping[str, dict], workers: int, now: Callable[[], float] = time.perf_counter) -> None:
        self.runs, self.workers, self.total, self.done, self.now = dict(runs), workers, len(runs), 0, now
        self.left = {name: run["iterations"] for name, run in runs.items()}  # steps left of unfinished runs
        self.seen: dict[str, tuple] = {}  # {name: (time, iteration, seconds) of its last report}
        self.trained: dict[tuple, list[float]] = {}  # {kind: [seconds, steps]}
        self.scored: dict[tuple, list[float]] = {}  # {kind: [seconds of the scores of each finished run]}

    def advance(self, name: str, iteration: int, seconds: Mapping[str, float]) -> None:
        """Records a progress report. Seconds before a run's first report are not used: they include compilation."""
        if name in self.seen:
            _, steps, before = self.seen[name]
            self._count(name, iteration - steps, seconds["training"] - before["training"])
        self.seen[name] = (self.now(), iteration, seconds)
        self.left[name] = self.runs[name]["iterations"] - iteration

    def pause(self, name: str) -> None:
        """Stops a run's clock until its next report."""
        self.seen.pop(name, None)

    def finish(self, name: str, result: Mapping[str, Any] | None = None) -> None:
        """Records the end of a run, with its result or `None` if it failed."""
        reported = name in self.seen
        self.pause(name)
        del self.left[name]
        self.done += 1
        if result is not None and result["finite"]:
            if not reported:
                self._count(name, self.runs[name]["iterations"], result["seconds"]["training"])
            self.scored.setdefault(_scored_kind(self.runs[name]), []).append(result["seconds"]["scores"])

    def _count(self, name, steps, seconds):
        spent = self.trained.setdefault(_kind(self.runs[name]), [0.0, 0])
        spent[0] += seconds
        spent[1] += steps

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

    def __str__(self) -> str:
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
