"""The examples that train. One file: the trainings are made once for all of it."""

import csv
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_provlae as kp
from tests.conftest import REPOSITORY
from tests.examples.conftest import SHORT, run

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))


def test_help_explains_every_flag(answers):
    text = " ".join(answers["help"].stdout.split())
    flags = re.findall(r'flags.DEFINE_\w+\(\s*"(\w+)"', (REPOSITORY / "examples/shapes3d.py").read_text())
    assert len(flags) >= 8
    for flag in flags:
        assert f"--{flag}:" in text or f"--[no]{flag}:" in text, flag


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_is_short(example):
    assert len(example.read_text().splitlines()) < 120


def test_every_example_is_trained(trained):
    """And ends with the exit code 0; `serve` does in tests/serving."""
    assert sorted([*trained, "serve"]) == [example.stem for example in EXAMPLES]


def test_mnist_leaves_model_pictures_and_history(trained):
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


def test_mnist_ends_with_the_numbers_and_paths(trained):
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


def test_mnist_is_exported_with_one_digit_of_each_class(trained):
    output, printed = trained["mnist"]
    last = "Exported to m/digits/1. Serve it: python examples/serve.py --model_base_path=m/digits"
    assert printed.splitlines()[-1] == last
    exported = output.parents[1] / "m/digits/1"
    assert kp.export.read_metadata(exported)["model"]["preset"] == "mnist"
    assert np.load(exported / "assets.extra/example_images.npy").shape == (10, 28, 28, 1)


PICTURES = ("reconstructions", "rung_samples", "traversals", "mutual_information", "rung_factors", "growth", "training")
LATENTS = {"dsprites": 6, "shapes3d": 9}


@pytest.fixture(params=LATENTS)
def finished(request, trained):
    return request.param, *trained[request.param]


def test_ground_truths_leaves_model_pictures_and_history(finished):
    name, output, _ = finished
    model = keras.models.load_model(output / "model.keras")
    assert (type(model), model.stage, model.iteration) == (kp.ProgressiveVAE, 2, 6)
    assert model.rung_slices[-1][1].stop == LATENTS[name]
    for picture in PICTURES:
        assert (output / f"{picture}.png").read_bytes().startswith(b"\x89PNG"), picture
    with (output / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["stage"]) for row in rows] == [0, 1, 2]
    assert {"loss", "mi_rung_3", "mig", "factor_vae_score"} <= set(rows[0])


def test_card_and_csv_files_name_the_twin(finished):
    name, output, printed = finished
    expected = f"{name} 32x32 procedural"
    assert f"{name}: the procedural twin" in printed
    assert f"data: {expected}" in printed
    card = json.loads((output / "card.json").read_text())
    assert card["about"]["data"] == expected
    assert card["about"]["rows"] == 300
    assert {"mig", "mig_sup", "factor_vae_score", "mi_total"} <= set(card["scores"])
    for file_name in "card.csv", "history.csv":
        with (output / file_name).open(newline="") as file:
            assert {row["data"] for row in csv.DictReader(file)} == {expected}


def test_the_report_is_about_this_training(finished):
    name, output, _ = finished
    text = (output / "report.html").read_text()
    assert f"<h1>{name} 32x32 procedural</h1>" in text
    assert "seed of the training" in text
    assert "At the end of every stage" in text
    assert sorted(path.suffix for path in (output / "snapshots").glob("step_*")) == [".npz"] * 3 + [".png"] * 3


def test_ground_truths_end_with_the_paths(finished):
    name, output, printed = finished
    paths = printed.split("Look at:")[1].strip().splitlines()
    files = ["report.html", "card.json", "card.csv", "history.csv", "model.keras"]
    names = [*(f"{picture}.png" for picture in PICTURES), *files]
    assert sorted(Path(line.strip()).name for line in paths) == sorted(names)
    assert all((output.parents[1] / line.strip()).is_file() for line in paths)
    assert ("MIG without the shape, as published:" in printed) == (name == "dsprites")


def test_a_training_goes_on_where_it_stopped(trained):
    output, _ = trained["shapes3d"]  # whose code is that of dsprites
    model = keras.models.load_model(output / "model.keras")
    rows = (output / "history.csv").read_text().splitlines()
    model.iteration_variable.assign(4)  # as if it had been stopped before the last epoch
    model.save(output / "model.keras")
    (output / "history.csv").write_text("\n".join(rows[:-1]) + "\n")
    resume = ("shapes3d", *SHORT, "--resume")
    refused, done = run(output.parents[1], (*resume, "--beta=3"), resume)
    assert refused.returncode != 0
    assert "takes the flags of the run that it goes on with" in refused.stdout + refused.stderr
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Epoch 3/3" in done.stdout
    assert "Epoch 2/3" not in done.stdout
    assert keras.models.load_model(output / "model.keras").iteration == 6
    with (output / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]


def test_there_may_be_nothing_to_resume(answers):
    done = answers["resume"]
    assert done.returncode == 1
    assert "There is nothing to resume in output/shapes3d" in done.stdout + done.stderr


def test_scaling_leaves_its_weights(trained):
    output, printed = trained["scaling"]
    assert "Process 0: 1 steps, stage 0, alpha 1.0; see output/scaling/run.weights.h5" in printed
    assert (output / "run.weights.h5").is_file()


def test_celeb_a_leaves_model_pictures_and_history(trained):
    output, printed = trained["celeb_a"]
    model = keras.models.load_model(output / "model.keras")
    assert (type(model), model.stage, model.iteration, model.num_rungs) == (kp.ProgressiveVAE, 3, 8, 4)
    assert model.count_params() < 38_253_051 / 8
    for picture in "reconstructions", "rung_samples", "traversals", "growth", "training":
        assert (output / f"{picture}.png").read_bytes().startswith(b"\x89PNG"), picture
    with (output / "history.csv").open(newline="") as file:
        assert {row["data"] for row in csv.DictReader(file)} == {"faces"}
    assert "I(x; z_l) in nats, of 4 test images" in printed
    assert "<h1>faces 32x32</h1>" in (output / "report.html").read_text()
    assert "output/celeb_a/report.html" in printed
    assert "every 10th image is the test split" in printed


@pytest.mark.parametrize(
    ("answer", "words"),
    [("one image", "num_images=1"), ("no epoch", "epochs=0"), ("no folder", "Not a directory")],
)
def test_flags_that_only_the_end_of_a_training_needs_are_checked_before_it(answers, answer, words):
    done = answers[answer]
    assert done.returncode != 0
    assert words in done.stdout + done.stderr
    assert "Epoch 1" not in done.stdout


def test_without_data_celeb_a_says_exactly_how_to_get_them(answers):
    done = answers["no data"]
    assert done.returncode == 1
    assert "Get img_align_celeba.zip" in done.stderr
    assert "tfds build celeb_a" in done.stderr


def test_a_server_without_a_model_says_so_and_fails(answers):
    done = answers["no model"]
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("There is no folder")
