import csv
from pathlib import Path

import keras
import numpy as np

import keras_provlae as kp


def test_the_example_leaves_model_pictures_and_history(trained):
    output, _ = trained["mnist"]
    model = keras.models.load_model(output / "model.keras")
    assert (type(model), model.stage, model.alpha, model.iteration) == (kp.ProgressiveVAE, 1, 1.0, 12)
    for name in "reconstructions", "rung_samples", "traversals", "growth", "training":
        assert (output / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
    with (output / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["stage"]) for row in rows] == [0, 0, 1, 1]
    assert {"loss", "reconstruction", "kl_rung_1", "kl_rung_2", "elbo", "alpha", "mi_rung_2"} <= set(rows[0])
    assert 0 < float(rows[-1]["mi_total"]) <= 7


def test_the_last_lines_are_the_numbers_and_paths(trained):
    output, printed = trained["mnist"]
    assert "rung 1 unlocked" in printed
    assert "Epoch 4/4" in printed
    numbers, paths = printed.split("Test images")[1].split("Exported to")[0].split("Look at:")
    assert all(name in numbers for name in ("elbo", "reconstruction", "kl_rung_2", "mi_rung_2", "i_over"))
    assert [Path(line.strip()).name for line in paths.strip().splitlines()] == [
        "report.html", "reconstructions.png", "rung_samples.png", "traversals.png", "growth.png", "training.png",
        "traversals.gif", "history.csv", "model.keras",
    ]  # fmt: skip
    assert all((output.parents[1] / line.strip()).is_file() for line in paths.strip().splitlines())


def test_the_model_is_exported_with_one_digit_of_each_class(trained):
    output, printed = trained["mnist"]
    last = "Exported to m/digits/1. Serve it: python examples/serve.py --model_base_path=m/digits"
    assert printed.splitlines()[-1] == last
    exported = output.parents[1] / "m/digits/1"
    assert kp.export.read_metadata(exported)["model"]["preset"] == "mnist"
    assert np.load(exported / "assets.extra/example_images.npy").shape == (10, 28, 28, 1)
