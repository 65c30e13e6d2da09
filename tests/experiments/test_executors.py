import sys
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from keras_provlae.experiments import execute_all, executors, read_results, runs
from keras_provlae.experiments.child import Child
from keras_provlae.experiments.runner import FailedRunsError
from keras_provlae.experiments.training import RESULT

RUN = {"model": "VLAE", "data": "mnist", "beta": 1, "L": 3, "latent_dim": 3, "iterations": 300, "size": 28}
RUNS = [{**RUN, "seed": seed} for seed in range(4)]


@pytest.fixture
def stub(made_up, monkeypatch):
    """A stub in place of the process that trains, which leaves a model and records where; seed 3 fails."""
    folders = []

    def execute(run, folder, source):
        folders.append(str(folder))
        if run["seed"] == 3:
            raise FileNotFoundError(f"No digits at {source}.")
        result = made_up(run)
        own = executors.Path(folder) / result["key"]
        own.mkdir(parents=True, exist_ok=True)
        (own / "model.keras").write_bytes(b"weights")
        (own / RESULT).write_text("{}")
        return result

    monkeypatch.setattr(executors.Child, "execute", lambda child, *request: execute(*request))
    return folders


class Elsewhere(ThreadPoolExecutor):
    """A machine that does not see the caller's files."""

    def submit(self, function, run, models, token, source):
        return super().submit(function, run, f"/elsewhere{models}", token, source)


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, Elsewhere])
def test_runs_on_an_executor(kind, stub, tmp_path, monkeypatch):
    monkeypatch.setattr(executors.tempfile, "gettempdir", lambda: str(tmp_path / "scratch"))
    lines = []
    with kind(1) as executor, pytest.raises(FailedRunsError, match="1 of 4 runs failed") as caught:
        execute_all(RUNS, tmp_path, sources={"mnist": "digits"}, say=lines.append, executor=executor)
    assert "No digits at digits." in str(caught.value)  # the worker's own traceback
    assert list(read_results(tmp_path)) == [runs.key(run) for run in RUNS[:3]]
    for run in RUNS[:3]:
        folder = tmp_path / "models" / runs.key(run)
        assert (folder / "model.keras").read_bytes() == b"weights"
        assert not (folder / RESULT).exists()
    assert not list((tmp_path / "scratch").glob("*/*"))
    assert sum("mig 0.100" in line for line in lines) == 3
    where = {ThreadPoolExecutor: str(tmp_path / "models"), Elsewhere: str(tmp_path / "scratch" / executors.SCRATCH)}
    assert set(stub) == {where[kind]}
    with kind(1) as executor:
        assert len(execute_all(RUNS[:3], tmp_path, executor=executor)) == 3
    assert len(stub) == 4  # nothing again


class Lost(Executor):
    """A scheduler that is gone after two runs."""

    def __init__(self):
        self.count = 0

    def submit(self, function, *args):
        future = Future()
        self.count += 1
        if self.count <= 2:
            future.set_result(function(*args))
        else:
            future.cancel()
            future.set_running_or_notify_cancel()
        return future


def test_the_same_command_goes_on_after_the_scheduler_is_lost(stub, tmp_path):
    with pytest.raises(executors.LostExecutorError, match=r"gone \(CancelledError.*1 runs to do. Run the same command"):
        execute_all(RUNS[:3], tmp_path, executor=Lost())
    assert len(read_results(tmp_path)) == 2
    assert len(execute_all(RUNS[:3], tmp_path, executor=Lost())) == 3
    assert len(stub) == 3


def test_progress_is_read_from_the_checkpoints(made_up, tmp_path, monkeypatch):
    written, seen = threading.Event(), threading.Event()

    def execute(run, folder, source):
        own = executors.Path(folder) / runs.key(run)
        own.mkdir()
        log = '{"variance": [[100, 0.5], [150, 0.5]], "seconds": {"training": 3.0, "scores": 0.0}}'
        (own / executors.HALF_LOG).write_text(log)
        written.set()
        assert seen.wait(30)
        return made_up(run)

    lines = []

    def say(line):
        lines.append(line)
        if "50% of all steps" in line:
            seen.set()

    monkeypatch.setattr(executors.Child, "execute", lambda child, *request: execute(*request))
    monkeypatch.setattr(executors, "LOOK_EVERY", 0.02)
    monkeypatch.setattr("keras_provlae.experiments.progress.SAY_EVERY", 0.0)
    with ThreadPoolExecutor(1) as executor:
        execute_all(RUNS[:1], tmp_path, executor=executor, say=say)
    assert written.is_set()
    assert "50% of all steps" in "\n".join(lines)


@pytest.fixture
def child():
    """A process that answers with the run's seed, fails at seed 1 and dies at seed 2."""
    program = """
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)
    seed = request["run"]["seed"]
    if seed == 2:
        os._exit(7)
    answer = {"error": "no digits"} if seed == 1 else {"result": [seed, os.getpid(), request["folder"]]}
    os.write(int(sys.argv[1]), json.dumps(answer).encode() + b"\\n")
"""
    made = Child((sys.executable, "-c", program))
    yield made
    made.process.stdin.close()
    made.answers.close()
    made.process.wait()


def test_a_worker_trains_in_a_process_of_its_own(child):
    seed, process, folder = child.execute({"seed": 5}, "there", None)
    assert (seed, folder) == (5, "there")
    with pytest.raises(RuntimeError, match="no digits"):
        child.execute({"seed": 1}, "there", None)
    assert child.execute({"seed": 6}, "there", None)[:2] == [6, process]
    with pytest.raises(RuntimeError, match=r"died \(exit code 7\)"):
        child.execute({"seed": 2}, "there", None)
    assert child.execute({"seed": 7}, "there", None)[1] != process


def test_an_executor_is_an_executor(tmp_path):
    with pytest.raises(TypeError, match=r"client.get_executor\(\). Received: str"):
        execute_all(RUNS, tmp_path, executor="tcp://127.0.0.1:8786")


def test_shards_share_a_folder(stub, tmp_path):
    for index in (3, 1, 2):
        with ThreadPoolExecutor(1) as executor:
            found = execute_all(RUNS[:3], tmp_path, executor=executor, shard=(index, 3))
        assert list(found) == [runs.key(RUNS[index - 1])]
    assert set(read_results(tmp_path)) == {runs.key(run) for run in RUNS[:3]}
    names = {path.name for path in tmp_path.glob("results*")}
    assert names == {f"results_{index}_of_3.jsonl" for index in (1, 2, 3)}
    with ThreadPoolExecutor(1) as executor:
        assert len(execute_all(RUNS[:3], tmp_path, executor=executor)) == 3
    assert len(stub) == 3
    for shard in (0, 3), (4, 3), (1, 0):
        with pytest.raises(ValueError, match="shard"):
            execute_all(RUNS, tmp_path, shard=shard)
