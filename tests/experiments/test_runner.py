import gc
import multiprocessing
import os
import signal
import time

import keras
import pytest

from keras_provlae.experiments import progress, read_results, runner, runs
from keras_provlae.experiments.progress import Clock
from keras_provlae.experiments.runner import FailedRunsError, execute_all

RUN = {"model": "VLAE", "data": "mnist", "beta": 1, "L": 3, "latent_dim": 3, "seed": 0, "iterations": 300, "size": 28}


def clock_of(count, workers, more=()):
    made = [*({**RUN, "seed": seed} for seed in range(count)), *more]
    time = [0.0]
    named = {f"run {number}": runs.complete(run) for number, run in enumerate(made)}
    return Clock(named, workers, now=lambda: time[0]), time


def spent(training, scores=0.0):
    return {"training": training, "scores": scores}


def test_the_time_left_is_that_of_the_remaining_steps():
    clock, time = clock_of(count=4, workers=2)
    assert str(clock) == "time left unknown"
    time[0] = 50.0  # importing, compiling
    clock.advance("run 0", 10, spent(20.0))
    time[0] = 60.0
    clock.advance("run 0", 20, spent(30.0))  # a second per step
    assert clock.seconds_left() == ((3 * 300 + 280) / 2, 4)
    assert str(clock) == "time left 10 min, plus the scores of 4 runs, not timed yet"
    assert clock.share == pytest.approx(20 / 1200)
    for name in "run 0", "run 1", "run 2":
        clock.finish(name)
    assert (clock.done, clock.seconds_left()) == (3, (300, 1))  # one run left: a second worker does not help


def test_a_resumed_run_counts_only_its_new_steps():
    clock, time = clock_of(count=1, workers=1)
    clock.advance("run 0", 200, spent(150.0))  # resumed at 200 steps
    time[0] = 20.0
    clock.advance("run 0", 210, spent(170.0))
    assert clock.seconds_left()[0] == 90 * 2.0
    clock.pause("run 0")  # its worker died
    time[0] = 1000.0
    clock.advance("run 0", 200, spent(150.0))
    assert clock.seconds_left()[0] == 100 * 2.0


def test_the_time_left_includes_the_scores():
    """The estimate uses the scoring time of runs with the same images and scores."""
    fewer = {"num_images": 20_000}
    clock, time = clock_of(count=2, workers=1, more=[{**RUN, **fewer}, {**RUN, **fewer, "model": "beta-VAE"}])
    for done in 100, 300:
        clock.advance("run 0", done, spent(done / 10, scores=done))  # scores of stages do not count as training
    assert clock.seconds_left() == (3 * 300 / 10, 4)
    clock.finish("run 0", {"finite": True, "seconds": spent(30.0, scores=1500.0)})
    assert clock.seconds_left() == (90 + 1500, 2)  # no run scored 20,000 images yet
    clock.advance("run 1", 300, spent(30.0, scores=400.0))
    time[0] = 1000.0  # during the final scores
    assert clock.seconds_left() == (60 + 100, 2)
    time[0] = 9000.0
    assert clock.seconds_left() == (60, 2)
    clock.finish("run 1", {"finite": False, "seconds": spent(30.0, scores=1.0)})  # its scores are incomplete
    clock.finish("run 2", {"finite": True, "seconds": spent(30.0, scores=200.0)})
    assert clock.seconds_left() == (30 + 200, 0)  # from another model with the same scores
    assert str(clock) == "time left 4 min"


class Forks:
    """A multiprocessing context of forks that, like spawned processes, hold no other worker's connection."""

    def __init__(self):
        self.context, self.ours = multiprocessing.get_context("fork"), []

    def Pipe(self):  # noqa: N802
        here, there = self.context.Pipe()
        self.ours.append(here)
        return here, there

    def Process(self, target, args, daemon):  # noqa: N802
        def run(*args):
            # TensorFlow's locks may be held by threads that a fork does not have
            gc.disable()
            keras.backend.clear_session = lambda: None
            for connection in self.ours:
                connection.close()
            target(*args)

        return self.context.Process(target=run, args=args, daemon=daemon)


@pytest.fixture
def stub_workers(monkeypatch):
    """Makes workers cheap: forks that call a stub in place of `execute`."""

    def use(execute):
        monkeypatch.setattr(runner, "execute", execute)
        monkeypatch.setattr(runner, "use_threads", lambda threads: None)
        context = Forks()
        monkeypatch.setattr(runner.multiprocessing, "get_context", lambda method: context)

    return use


# Python 3.12 warns of forks in a process with threads; these forks run nothing but Python
forks = pytest.mark.filterwarnings("ignore:.*fork")


@forks
def test_a_run_survives_the_death_of_one_worker(stub_workers, made_up, tmp_path):
    """`dies once` kills its first worker, `dies always` every one."""
    once, always, fine = ({**RUN, "seed": seed} for seed in range(3))

    def execute(run, folder, progress, source):
        marker = tmp_path / f"died_{run['seed']}"
        if run["seed"] == always["seed"] or (run["seed"] == once["seed"] and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {**made_up(run), "source": source}

    stub_workers(execute)
    lines = []
    with pytest.raises(FailedRunsError, match="1 of 3 runs failed") as caught:
        execute_all([once, always, fine, fine], tmp_path, sources={"mnist": "the folder"}, say=lines.append)
    assert f"First error, {runs.key(always)}:\nits worker died 2 times, last with exit code -9" in str(caught.value)
    results = read_results(tmp_path)
    assert list(results) == [runs.key(once), runs.key(fine)]
    assert {result["source"] for result in results.values()} == {"the folder"}
    deaths = [line for line in lines if "died (exit code -9); a new one resumes its run" in line]
    assert [line.split()[3] for line in deaths] == [runs.key(once), runs.key(always)]
    assert lines[0].startswith("3 runs, 0 already finished")
    assert lines[-1].startswith("[3/3] VLAE mnist L 3 x 3 beta 1 seed 2: mig 0.100")


@forks
def test_several_workers_train_at_once_and_report_progress(stub_workers, made_up, tmp_path, monkeypatch):
    first, second = ({**RUN, "seed": seed} for seed in range(2))

    def execute(run, folder, report, source):
        (tmp_path / f"begun_{run['seed']}").touch()
        report(150, spent(1.0))
        end = time.time() + 30
        while len(list(tmp_path.glob("begun_*"))) < 2 and time.time() < end:
            time.sleep(0.01)
        assert time.time() < end, "the other run did not start"
        report(300, spent(4.0))
        return made_up(run)

    stub_workers(execute)
    monkeypatch.setattr(progress, "SAY_EVERY", 0.0)
    lines = []
    results = execute_all([first, second], tmp_path, workers=2, say=lines.append)
    assert list(results) == [runs.key(first), runs.key(second)]
    shares = [int(line.split("%")[0]) for line in lines if "of all steps" in line]
    assert shares == sorted(shares)
    assert {25, 100} <= set(shares)


@forks
def test_a_worker_exits_when_its_runner_is_killed(stub_workers):
    def execute(run, folder, progress, source):
        progress(os.getpid(), {})
        time.sleep(60)

    stub_workers(execute)
    ours, theirs = multiprocessing.Pipe()
    runner_process = os.fork()
    if not runner_process:
        if not os.fork():
            runner._worker(theirs, "", 1, {})
            os._exit(0)
        time.sleep(60)
        os._exit(0)
    theirs.close()
    ours.send(runs.complete(RUN))
    assert ours.poll(30)
    _, (worker, _) = ours.recv()
    os.kill(runner_process, signal.SIGKILL)
    os.waitpid(runner_process, 0)
    ended = ours.poll(10)
    if not ended:
        os.kill(worker, signal.SIGKILL)
    assert ended, "the worker outlived its runner"
    with pytest.raises(EOFError):
        ours.recv()
