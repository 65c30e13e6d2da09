"""Experiments from the command to the page, at the smallest scale and mostly from made-up results."""

import contextlib
import json
import re

import pytest

from keras_provlae.experiments import execute_all, read_results, runs, suite, write_report
from keras_provlae.experiments.records import append_result
from keras_provlae.experiments.runner import FailedRunsError

TWIN = {"shapes3d": "procedural"}


@pytest.fixture(scope="module")
def partial(tmp_path_factory, made_up):
    """`(folder, results before, progress lines, error)` of an experiment with two missing runs.

    One had been trained when its runner was killed; the files of the other are damaged.
    """
    folder = tmp_path_factory.mktemp("suite") / "smoke"
    grid = suite.grid("ablation", "smoke", 1, TWIN)
    for run, text in zip(grid[:2], [json.dumps(made_up(grid[0])), "damaged"], strict=True):
        trained = folder / "models" / runs.key(run)
        trained.mkdir(parents=True)
        (trained / "result.json").write_text(text)
    for run in grid[2:]:
        append_result(folder, made_up(run))
    before, lines = read_results(folder), []

    class Lines:
        write = staticmethod(lines.append)

    with contextlib.redirect_stdout(Lines), pytest.raises(FailedRunsError) as caught:
        suite.run_experiment("ablation", "smoke", folder, 1, 1, TWIN)
    return folder, before, [line for line in lines if line.strip()], str(caught.value)


def test_missing_runs_are_added_and_a_failure_does_not_stop_the_others(partial):
    folder, before, lines, error = partial
    first, second = suite.grid("ablation", "smoke", 1, TWIN)[:2]
    done = read_results(folder)
    assert set(done) - set(before) == {runs.key(first)}
    assert {name: done[name] for name in before} == before
    assert not (folder / "models" / runs.key(first) / "result.json").exists()
    assert "4 runs, 2 already finished" in lines[0]
    assert re.match(r"\[1/2\] pro-VLAE .*: mig 0.100.*, training 60 s, scores 6 s · time left 1 min", lines[2])
    assert re.match(rf"\[2/2\] FAILED {re.escape(runs.key(second))}: \S*JSONDecodeError: ", lines[4])
    assert f"1 of 4 runs failed; run the same command to retry them. First error, {runs.key(second)}" in error
    assert "Traceback" in error
    assert "1 of 4 runs are not finished" in (folder / "ablation" / "README.md").read_text()


def test_a_command_prints_and_saves_its_page(partial, made_up, command):
    folder, *_ = partial
    append_result(folder, made_up(suite.grid("ablation", "smoke", 1, TWIN)[1]))
    code, output = command("ablation", "--scale=smoke", "--seeds=1", f"--output={folder}", "--shapes3d=procedural")
    page = (folder / "ablation" / "README.md").read_text()
    assert not code
    assert "4 runs, 4 already finished" in output
    assert "Started" not in output
    assert page in output
    assert "its numbers say nothing about the paper" in page
    assert "Scale: smoke; seeds: 1." in page
    assert "not finished" not in page


def test_a_command_reports_errors_without_a_traceback(tmp_path, command):
    code, output = command("comparison", "--scale=smoke", "--seeds=1", "--report_only", f"--output={tmp_path}")
    assert "has none of the 4 runs of comparison at scale smoke" in f"{code}{output}"
    assert "Traceback" not in output
    code, output = command("figures")
    assert code == 1
    known = "comparison, information_flow, ablation, traversals, harsh_ablation, guidance or all"
    assert f"Name exactly one experiment: {known}" in output
    assert "Received: figures" in output


def test_pages_of_different_images_carry_a_warning(tmp_path, made_up):
    for run in suite.grid("ablation", "smoke", seeds=1)[:2]:
        append_result(tmp_path, {**made_up(run), "data": f"shapes3d, gamma {run['gamma']}"})
    page = write_report("ablation", "smoke", tmp_path, seeds=1, sources=TWIN)  # the source is not compared
    assert "2 of 4 runs are not finished" in page
    assert "Do not compare: these runs used different images: shapes3d, gamma 0.0; shapes3d, gamma 0.5" in page


def test_unusable_arguments_raise_before_any_work(tmp_path):
    run = suite.grid("comparison", "smoke", seeds=1)[0]
    with pytest.raises(ValueError, match="workers=0"):
        execute_all([run], tmp_path, workers=0)
    with pytest.raises(TypeError, match=r"Pass `\[run\]`"):
        execute_all(run, tmp_path)
    (tmp_path / "comparison").write_text("not a folder")
    with pytest.raises(OSError, match=r"The page cannot be written to .*comparison"):
        suite.run_experiment("comparison", "smoke", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison"]
