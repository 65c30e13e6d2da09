"""Where TensorFlow is not installed: `make test-backends` runs this file on JAX alone and on PyTorch alone.

It runs without `conftest.py`, which imports TensorFlow.
"""

import importlib.util
import json
import os
import pickle
import subprocess
import sys

import pytest

if importlib.util.find_spec("tensorflow"):
    pytest.skip("TensorFlow is installed", allow_module_level=True)

import keras
import numpy as np
from keras import ops

import keras_provlae as kp

IMPORT = """
import json, sys, time
import keras
before = set(sys.modules)
start = time.process_time()
import keras_provlae
seconds = time.process_time() - start
names = {name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
print(json.dumps([seconds, sorted(names)]))
"""


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def truth():
    return kp.datasets.shapes3d("procedural").downscale(4)


@pytest.fixture(scope="module")
def trained(truth):
    """A model that has grown while it read the batches of a twin, and its history."""
    model = kp.ProgressiveVAE((16, 16, 3), num_rungs=2, latent_dim=2, channels=4, dense=8)
    model.compile()
    batches = truth.batches(16, seed=0, repeat=True)
    callbacks = [kp.GrowthCallback(), kp.callbacks.InformationFlow(truth, every=1, num_images=32, draws=20)]
    settings = {"steps_per_epoch": 3, "validation_data": truth.batches(16, subset=32), "verbose": 0}
    history = model.fit(batches, epochs=4, callbacks=callbacks, **settings)
    return model, history.history


def test_the_import_is_quick_and_imports_nothing_else():
    command = [sys.executable, "-c", IMPORT]
    seconds, names = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert names == ["keras_provlae"]
    assert seconds < 0.3


def test_fit_on_batches_grows(trained):
    model, history = trained
    assert history["stage"] == [0, 0, 1, 1]
    assert np.isfinite([history["loss"], history["val_loss"], history["mi_total"]]).all()
    assert model.iteration == 12


def test_fit_on_arrays(truth):
    images, _ = truth.sample(20, seed=0)
    model = kp.VLAE((16, 16, 3), num_rungs=2, latent_dim=2, channels=4, dense=8)
    model.compile()
    before = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    history = model.fit(images, batch_size=8, epochs=2, validation_split=0.2, verbose=2).history
    assert np.isfinite(history["val_loss"]).all()
    assert any((ops.convert_to_numpy(v) != b).any() for v, b in zip(model.trainable_variables, before, strict=True))
    with pytest.raises(kp.InvalidImagesError, match="in \\[0, 1\\]"):
        model.fit(2 * images, verbose=0)


def test_a_step_stops_at_bad_images_of_python_batches():
    model = kp.VLAE((8, 8, 1), num_rungs=1, latent_dim=2, channels=4, dense=8)
    model.compile()

    def batches():
        yield (np.zeros((4, 8, 8, 1), "float32"),)
        yield (np.full((4, 8, 8, 1), np.nan, "float32"),)

    with pytest.raises(ValueError, match="finite values in \\[0, 1\\]"):
        model.fit(batches(), verbose=0)


def test_encode_decode_and_files(trained, truth, tmp_path):
    model, _ = trained
    images, _ = truth.sample(5, seed=1)
    mean, log_var = model.encode(images)
    assert mean.shape == log_var.shape == (5, 4)
    np.testing.assert_allclose(model.encode_on_batch(images)[0], ops.convert_to_numpy(mean), atol=1e-5)
    assert model.decode_on_batch(np.zeros((3, 4), "float32")).shape == (3, 16, 16, 3)
    assert model.sample(2, seed=0).shape == (2, 16, 16, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.stage, loaded.alpha, loaded.iteration) == (model.stage, model.alpha, model.iteration)
    decoded, expected = (ops.convert_to_numpy(of.reconstruct(images)) for of in (loaded, model))
    np.testing.assert_allclose(decoded, expected, atol=1e-5)
    loaded.fit(truth.batches(16, subset=16), verbose=0)


def test_a_backup_resumes(truth, tmp_path):
    def train(epochs):
        model = kp.ProgressiveVAE((16, 16, 3), num_rungs=2, latent_dim=2, channels=4, dense=8)
        model.compile()
        backup = kp.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
        batches = truth.batches(16, seed=0, repeat=True)
        model.fit(batches, epochs=epochs, steps_per_epoch=2, callbacks=[backup], verbose=0)
        return model

    train(1)
    assert train(2).iteration == 4


def test_metrics_pictures_and_report(trained, truth, tmp_path):
    model, history = trained
    groups = [name for name in kp.metrics.GROUPS if name != "contexts"]  # which decodes for half a minute
    card = kp.metrics.evaluate(model, truth, num_images=400, seed=0, include=groups)
    assert 0 <= float(card["mig"]) <= 1
    assert card.skipped == {}
    images, _ = truth.sample(8, seed=0)
    for name, picture in {
        "traversals": kp.visualization.traversals(model, images[:1], steps=3),
        "curves": kp.visualization.training_curves(history),
    }.items():
        kp.visualization.write_png(picture, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
    page = kp.report.write_report(model, truth, history, tmp_path / "report.html", card=card, num_images=200, draws=100)
    assert "<html" in page.read_text()


def test_orders_and_pixels_are_those_of_tensorflow(truth):
    """Numbers that TensorFlow 2.21 gave: an order, and the pixels of a heart."""
    seven = kp.datasets.GroundTruth.from_arrays(np.zeros((7, 8, 8)), np.arange(7)[:, None], ["n"])
    factors = [factors for _, factors in seven.batches(7, seed=0, with_factors=True)]
    assert factors[0][:, 0].tolist() == [5, 4, 0, 2, 6, 3, 1]
    assert kp.datasets.dsprites("procedural").images([2, 5, 0, 16, 16]).sum() == 226
    pickled = pickle.loads(pickle.dumps(truth))
    np.testing.assert_array_equal(pickled.images([0] * 6), truth.images([0] * 6))


@pytest.mark.parametrize(
    "needs",
    [
        lambda folder, truth, model: truth.tf_dataset(),
        lambda folder, truth, model: kp.datasets.mnist(),
        lambda folder, truth, model: kp.datasets.image_folder(folder),
        lambda folder, truth, model: kp.datasets.celeb_a(source=folder),
        lambda folder, truth, model: kp.datasets.shapes3d("tfds"),
        lambda folder, truth, model: kp.export.export_savedmodel(model, folder / "served"),
        lambda folder, truth, model: kp.conversion.load_authors_weights(model, folder / "checkpoint"),
        lambda folder, truth, model: kp.datasets.GroundTruth({"a": [0]}, (8, 8, 1), lambda factors: None, "own", "own"),
    ],
)
def test_what_needs_tensorflow_says_so(needs, trained, truth, tmp_path):
    with pytest.raises(ImportError, match="needs tensorflow, which is not installed"):
        needs(tmp_path, truth, trained[0])


def test_nothing_imported_tensorflow(trained):
    assert "tensorflow" not in sys.modules
    assert os.environ.get("KERAS_BACKEND") in ("jax", "torch")
