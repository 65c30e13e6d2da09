import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp


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
