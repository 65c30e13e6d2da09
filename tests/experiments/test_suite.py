"""The smallest scale of the real thing: a command, killed amid its runs, that the same command brings to its end."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from keras_provlae.experiments import execute_all, read_results, runs, suite, write_report
from keras_provlae.experiments.runner import FailedRunsError
from tests.conftest import REPOSITORY

COMMAND = [sys.executable, "-m", "keras_provlae.experiments", "comparison", "--scale=smoke", "--seeds=1", "--workers=2"]
WAIT = 300  # seconds, for what takes some twenty


def begin(folder, *flags):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [*COMMAND, f"--output={folder}", "--shapes3d=procedural", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, cwd=folder.parent, start_new_session=True, **pipes)


def told(folder, *flags):
    """Exit code and output of a whole call."""
    with begin(folder, *flags) as process:
        said, _ = process.communicate(timeout=WAIT)
    return process.returncode, said


def wait_for(condition):
    end = time.time() + WAIT
    while not condition():
        assert time.time() < end, "this did not happen"
        time.sleep(0.05)


def processes_of(session):
    """Processes of the session that still run, zombies aside."""
    listed = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(session)], capture_output=True, text=True).stdout
    return [line.split()[0] for line in listed.splitlines() if "Z" not in line.split()[1]]


def workers_of(pid):
    """Processes of the workers of a runner."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """`(folder, what was done when it was killed, what the second call said)`; a worker of that is killed too."""
    folder = tmp_path_factory.mktemp("suite") / "smoke"
    with begin(folder, "--workers=1") as first:
        wait_for(lambda: read_results(folder) or first.poll() is not None)
        os.kill(first.pid, signal.SIGKILL)  # the runner alone: its worker must notice
    before = read_results(folder)
    with (folder / "results.jsonl").open("a") as file:
        file.write('{"key": "cut o')
    wait_for(lambda: not processes_of(first.pid))
    with begin(folder) as second:
        workers = []
        wait_for(lambda: workers.extend(workers_of(second.pid)) or workers or second.poll() is not None)
        if workers:
            os.kill(workers[0], signal.SIGKILL)
        said, _ = second.communicate(timeout=WAIT)
    assert second.returncode == 0, said
    return folder, before, said


def test_the_same_command_goes_on_after_a_kill(finished):
    folder, before, said = finished
    grid = suite.grid("comparison", "smoke", seeds=1, sources={"shapes3d": "procedural"})
    assert 1 <= len(before) < len(grid)
    done = read_results(folder)
    assert set(done) == {runs.key(run) for run in grid}
    assert {name: done[name] for name in before} == before
    assert len((folder / "results.jsonl").read_text().splitlines()) == len(grid)
    assert f"{len(grid)} runs, {len(before)} of them done before" in said
    assert re.search(r"The worker of \S+ died \(exit code -9\); its run goes on in another", said)
    assert re.search(r"\[\d/\d\] .*: mig \d\.\d{3}.*, \d+ s of training and \d+ s of scores · time left", said)


def test_a_command_ends_with_its_page(finished):
    folder, _, said = finished
    page = (folder / "comparison" / "README.md").read_text()
    assert page in said
    assert "its numbers say nothing about the paper" in page
    assert "Scale: smoke; number of seeds: 1." in page
    assert (folder / "comparison" / "shapes3d_mig_against_mig_sup.png").exists()


def test_what_is_done_is_not_done_again(finished, capsys):
    folder, _, _ = finished
    suite.run_experiment("comparison", "smoke", folder, seeds=1, sources={"shapes3d": "procedural"})
    said = capsys.readouterr().out
    assert "4 runs, 4 of them done before" in said
    assert "[1/" not in said


def test_trained_models_are_drawn(finished):
    folder, _, _ = finished
    page = write_report("traversals", "smoke", folder, seeds=1, sources={"shapes3d": "procedural"})
    drawn = re.findall(r"!\[(figure 4): best (\S+) on shapes3d\]\((.*?)\)", page)
    assert [model for _, model, _ in drawn] == ["pro-VLAE", "VLAE", "teacher-student"]
    for _, _, file in drawn:
        assert (folder / "traversals" / file).stat().st_size > 1000
    assert "of its 6 runs are not finished" in page


def test_what_a_command_cannot_do_it_says(tmp_path):
    code, said = told(tmp_path / "nothing", "--report_only")
    assert code != 0
    assert "None of the 4 runs of comparison at scale smoke is in" in said
    assert "Traceback" not in said


def test_a_run_that_fails_does_not_stop_the_others(tmp_path):
    good = {**suite.grid("comparison", "smoke", seeds=1)[2], "L": 1, "iterations": 2, "source": "procedural"}
    bad = {**good, "source": "no_such.h5", "seed": 1}
    said = []
    with pytest.raises(FailedRunsError, match=r"(?s)1 of 2 runs failed.*FileNotFoundError"):
        execute_all([bad, good], tmp_path, say=said.append)
    assert list(read_results(tmp_path)) == [runs.key(good)]
    assert any(f"/2] FAILED {runs.key(bad)}: FileNotFoundError" in line for line in said)
    with pytest.raises(ValueError, match="workers=0"):
        execute_all([good], tmp_path, workers=0)
    with pytest.raises(TypeError, match="put it into a list"):
        execute_all(good, tmp_path)
