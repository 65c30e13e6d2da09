"""What `benchmarks/gpu.py` decides and compares; its measurements run by hand."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu, gpu_parity, gpu_speed

PROGRAM = Path(gpu.__file__)


@pytest.fixture(scope="module")
def stored():
    return gpu_parity.read()[0]


def test_every_stage_batch_and_precision_is_a_case_once():
    cases = gpu_speed.cases(3, (100, 400, 1600), together=10)
    assert len(set(cases)) == len(cases)
    plain = {case[:3] for case in cases if case == gpu_speed.Case(*case[:3])}
    assert plain == set(product(range(3), (100, 400, 1600), gpu_speed.PRECISIONS))
    assert {(case.way, case.steps) for case in cases} == {("fit", 1), ("scan", 10), ("fit", 10), ("unchecked", 1)}
    assert [case.batch for case in cases[:3]] == [100, 400, 1600]  # each raises the peak of the memory


def test_a_case_starts_only_if_the_longest_before_it_would_fit():
    assert gpu.fits(30.0, [], guess=30.0)
    assert not gpu.fits(29.0, [], guess=30.0)
    assert gpu.fits(12.0, [5.0, 12.0, 7.0], guess=30.0)
    assert not gpu.fits(11.9, [5.0, 12.0, 7.0], guess=30.0)


def test_the_recipe_gets_the_steps_that_fit():
    assert gpu.iterations_in(200.0, per_step=0.002, compiling=10.0, stages=3) == 76_500  # 0.9 of 170 s
    assert gpu.iterations_in(20.0, per_step=0.002, compiling=10.0, stages=3) == 0


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(gpu, "NEEDED", {"numpy": "numpy", "no_such_module": "no-such-package"})
    with pytest.raises(SystemExit, match="Missing packages: no-such-package"):
        gpu.check_packages()


def test_an_error_in_a_part_is_kept_and_the_next_part_goes_on(tmp_path, capsys):
    results = gpu.Results(tmp_path / "new")
    results.part("first", lambda results: 1 / 0)
    results.part("second", lambda results: results.set(found=[1.5]))
    content = json.loads((tmp_path / "new" / "results.json").read_text())
    assert "ZeroDivisionError" in content["errors"]["first"]
    assert content["found"] == [1.5]
    assert gpu.summary(results) == 1
    assert "failed: first" in capsys.readouterr().out


def test_the_stored_losses_are_the_objective_of_the_stored_terms(stored):
    for stage, weights in ((0, {3: 2.0, 2: 0.5, 1: 0.5}), (2, {3: 2.0, 2: 2.0, 1: 2.0})):  # beta 2, gamma 0.5
        terms = {name.split(",")[0]: value for name, value in stored.items() if name.endswith(f"stage {stage}")}
        loss = terms["reconstruction"] + 4.0 * terms["tc_estimate"] + terms["contours"]
        loss += sum(weight * terms[f"kl_rung_{rung}"] for rung, weight in weights.items())
        np.testing.assert_allclose(terms["loss"], loss, rtol=1e-6)
        assert len(loss) == gpu_parity.STEPS


@pytest.mark.parametrize("change", [1 + 1e-4, np.nan])
def test_a_number_that_deviates_fails(stored, change):
    assert gpu_parity.fails(gpu_parity.compared(stored, stored)) == []
    changed = {**stored, "mean": stored["mean"] * change}
    assert gpu_parity.fails(gpu_parity.compared(changed, stored)) == ["mean"]


def test_rounding_passes_but_other_random_bits_or_a_missing_number_do_not(stored):
    rounded = {name: value * (1 + 1e-6) for name, value in stored.items() if name != "random bits"}
    rows = gpu_parity.compared({**rounded, "random bits": stored["random bits"]}, stored)
    assert gpu_parity.fails(rows) == []
    others = {**stored, "random bits": stored["random bits"] + 1}
    del others["noise"]
    assert sorted(gpu_parity.fails(gpu_parity.compared(others, stored))) == ["noise", "random bits"]


def test_what_is_written_can_be_read(stored, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_parity, "FILE", tmp_path / "parity.json")
    numbers = {"random bits": stored["random bits"], "a": np.array([[1 / 3, 2e-9]], "float32")}
    gpu_parity.write(numbers, {"device": "CPU"})
    read, made_with = gpu_parity.read()
    np.testing.assert_array_equal(read["a"].astype("float32"), numbers["a"])
    np.testing.assert_array_equal(read["random bits"], numbers["random bits"])
    assert made_with == {"device": "CPU"}


@pytest.mark.long
def test_a_cpu_computes_the_stored_numbers(tmp_path):
    pytest.importorskip("jax")
    command = [sys.executable, PROGRAM, "--parts", "parity", "--cpu", f"--out={tmp_path}"]
    done = subprocess.run(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.loads((tmp_path / "results.json").read_text())["parity"]["deviations"]) == len(gpu_parity.read()[0])
