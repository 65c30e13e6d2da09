import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import gc
import sys
from pathlib import Path

import pytest

# The process that starts the workers of pytest-xdist runs no test: it does without ten seconds of imports.
if "PYTEST_XDIST_WORKER" in os.environ or not any(argument.startswith("-n") for argument in sys.argv):
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_provlae as kp

# Programs that tests start; doctest would import them here, and their flags would stay.
collect_ignore = ["training/distributed_run.py", "training/forked_runs.py"]

# Less garbage collection: TensorFlow's modules are millions of objects, and tracing makes many more.
gc.collect()
gc.freeze()
gc.set_threshold(100_000, 50, 100)

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture
def images():
    """40 smooth 8 x 8 images in [0, 1], with structure that a small model can learn."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[0:8, 0:8]
    center = rng.uniform(1, 6, (40, 2, 1, 1))
    width = rng.uniform(1, 3, (40, 1, 1))
    blobs = np.exp(-((row - center[:, 0]) ** 2 + (column - center[:, 1]) ** 2) / width**2)
    return blobs[..., None].astype("float32")


@pytest.fixture
def make_model():
    """A small `ProgressiveVAE` of three rungs, or another class and other settings."""

    def make(cls=kp.ProgressiveVAE, **settings):
        return cls(**{"image_shape": (8, 8, 1), "num_rungs": 3, "latent_dim": 2, "channels": 4, "dense": 8, **settings})

    return make


@pytest.fixture(scope="session")
def growing_model():
    """Three rungs of unequal widths: the deepest grown, the next half faded in, the last locked."""
    keras.utils.set_random_seed(0)
    model = kp.ProgressiveVAE((8, 8, 1), num_rungs=3, latent_dim=(1, 2, 3), channels=4, dense=8)
    model.grow(fade_in_steps=10)
    model.iteration_variable.assign(5)
    return model


@pytest.fixture(scope="session")
def eight():
    """Eight images, as floats that are uint8 values / 255."""
    return np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1)).astype("float32") / 255


@pytest.fixture(scope="session")
def exported(growing_model, eight, tmp_path_factory):
    """Folder of the only version of the growing model."""
    folder = tmp_path_factory.mktemp("served") / "blobs"
    return kp.export.export_savedmodel(growing_model, folder, example_images=eight[:5])


@pytest.fixture(scope="session")
def loaded(exported):
    return tf.saved_model.load(str(exported))


@pytest.fixture(scope="session")
def shared():
    """A folder of reference data beside the repository; tests that read it skip where there is none."""
    if not SHARED.is_dir():
        pytest.skip("no reference data beside the repository")
    return SHARED


@pytest.fixture(scope="module", params=["accelerated", "plain"])
def acceleration(request):
    """Runs a test with the faster equivalents of `keras_provlae.acceleration` and without them."""
    if request.param == "plain":
        kp.acceleration.disable()
    yield request.param
    kp.acceleration.enable()
