"""The same classes train on TensorFlow, JAX and PyTorch, to the same numbers."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_provlae as kp
from tests.models import backend_run

SCRIPT = Path(__file__).with_name("backend_run.py")
OTHERS = ["jax", "torch"]


def start(backend, source, folder):
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(SCRIPT.parents[2])}
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # JAX spends its time on compiling
    command = [sys.executable, str(SCRIPT), str(source), str(folder / f"{backend}.npz")]
    with (folder / f"{backend}.txt").open("w") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file)


def finish(backend, process, folder):
    assert process.wait() == 0, (folder / f"{backend}.txt").read_text()[-3000:]
    with np.load(folder / f"{backend}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("backends")


@pytest.fixture(scope="module")
def source(folder):
    rng = np.random.default_rng(0)
    model = kp.ProgressiveVAE((9, 7, 2), num_rungs=2, latent_dim=(3, 2), beta=2.0, channels=4, dense=None)
    weights = {f"weight_{i}": 0.3 * rng.standard_normal(v.shape) for i, v in enumerate(model.trainable_variables)}
    images, noise = rng.uniform(size=(4, 9, 7, 2)).astype("float32"), rng.standard_normal((4, 5)).astype("float32")
    np.savez(folder / "start.npz", images=images, noise=noise, **weights)
    return folder / "start.npz"


@pytest.fixture(scope="module")
def processes(source, folder):
    """{backend: its process} of the installed ones, all started at once."""
    backends = [backend for backend in OTHERS if importlib.util.find_spec(backend)]
    started = {backend: start(backend, source, folder) for backend in backends}
    yield started
    for process in started.values():
        process.kill()  # after a failed test
        process.wait()


@pytest.fixture(scope="module")
def on_tensorflow(processes, source):
    """Computed in this process, while the others run."""
    return backend_run.results(source)


def test_tensorflow_trains_grows_and_saves(on_tensorflow):
    losses = on_tensorflow["losses"]
    np.testing.assert_allclose(losses[:, 3], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(losses[:, 0], losses[:, 1] + 2.0 * losses[:, 2], rtol=1e-5)  # beta 2
    np.testing.assert_allclose(on_tensorflow["stage"], [0, 0, 1, 1])
    np.testing.assert_allclose(on_tensorflow["alpha"], [1, 1, 0.5, 1])
    np.testing.assert_allclose(on_tensorflow["loaded"], [1, 1, 8, 0])
    assert np.abs(on_tensorflow["student"]).min() > 1e-7  # every term is there
    *_, first, second, tc_weight = on_tensorflow["guided"]
    np.testing.assert_allclose(first, [1, 1.5, 2, 2.5])
    np.testing.assert_allclose(second, [1, 2, 3, 4])
    np.testing.assert_allclose(tc_weight, [0, 0, 2, 2])
    assert_errors(on_tensorflow)
    assert_measured(on_tensorflow)


def assert_measured(result):
    np.testing.assert_allclose(result["mean_on_batch"], result["mean"], atol=1e-6)
    assert result["observed"][-1] == pytest.approx(result["mi_total"], abs=1e-4)
    assert np.isfinite(result["observed"]).all()
    assert 0 <= result["mig"] <= 1


def assert_errors(result):
    assert len(result["errors"]) == 2
    assert all(text.startswith("Images must hold finite values in [0, 1]") for text in result["errors"])
    assert result["alive"]  # the weights are still there, and finite


@pytest.mark.parametrize("backend", OTHERS)
def test_other_backends_take_the_same_steps(backend, processes, folder, on_tensorflow):
    if backend not in processes:
        pytest.skip(f"{backend} is not installed")
    result = finish(backend, processes[backend], folder)
    assert str(result["backend"]) == backend
    np.testing.assert_allclose(result["losses"], on_tensorflow["losses"], rtol=1e-4)
    np.testing.assert_allclose(result["student"], on_tensorflow["student"], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(result["guided"], on_tensorflow["guided"], rtol=1e-3, atol=1e-6)
    for name in on_tensorflow:
        if name.startswith("weight_"):
            np.testing.assert_allclose(result[name], on_tensorflow[name], rtol=1e-4, atol=1e-4)
    for name in ("alpha", "stage", "iteration"):
        np.testing.assert_allclose(result[name], on_tensorflow[name], rtol=1e-6)
    assert np.isfinite(result["val_loss"]).all()
    np.testing.assert_allclose(result["loaded"], [1, 1, 8, 0], atol=1e-6)
    assert_errors(result)
    assert_measured(result)
