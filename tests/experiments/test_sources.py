import numpy as np
import pytest
import tensorflow as tf

from keras_provlae.experiments import runs, sources
from keras_provlae.experiments.scales import run as run_at

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 28, 28, 1)).astype("uint8")
LABELS = np.arange(30) % 10


@pytest.fixture(autouse=True)
def _clear_cache():
    sources._load.cache_clear()
    yield
    sources._load.cache_clear()


def smoke(data, source):
    return runs.complete({**run_at("smoke", data, beta=1, L=2, latent_dim=2, seed=0), "source": source})


def test_the_twin_is_downscaled_and_has_factors():
    data = sources.load(smoke("shapes3d", "procedural"))
    assert data.truth.image_shape == (16, 16, 3)
    assert (data.name, data.real, data.has_factors) == ("shapes3d 16x16, procedural", False, True)
    assert len(data.factor_names) == 6
    factors = data.truth.factors([0, 7])
    np.testing.assert_array_equal(data.factors(factors), factors)
    assert sources.load(smoke("shapes3d", "procedural")) is data


def test_digits_are_scored_against_their_labels(monkeypatch):
    def mnist(split, batch_size, source, with_labels, seed):
        assert (split, source, with_labels) == ("train", "the folder", True)
        return tf.data.Dataset.from_tensor_slices((IMAGES.astype("float32") / 255, LABELS)).batch(8)

    monkeypatch.setattr(sources.datasets, "mnist", mnist)
    data = sources.load(smoke("mnist", "its name"), "the folder")
    assert data.truth.image_shape == (14, 14, 1)
    assert (data.name, data.real, data.has_factors) == ("mnist, 30 real digits", True, False)
    assert data.factor_names == ("digit",)
    images, numbers = data.truth.sample(30, seed=0)
    np.testing.assert_array_equal(data.factors(numbers)[:, 0], LABELS[numbers[:, 0]])
    blocks = IMAGES[numbers[:, 0]].reshape(30, 14, 2, 14, 2, 1).mean((2, 4)) / 255
    np.testing.assert_allclose(images, blocks, atol=0.6 / 255)
    with pytest.raises(ValueError, match="Fashion-MNIST cannot replace it"):
        sources.load(smoke("mnist", "fashion_mnist"))


def test_faces_have_no_factors(monkeypatch):
    faces = tf.data.Dataset.from_tensors(np.zeros((4, 64, 64, 3), "float32"))
    monkeypatch.setattr(sources.datasets, "celeb_a", lambda *args, **kwargs: faces)
    data = sources.load(smoke("celeb_a", "tfds"))
    assert data.truth.image_shape == (16, 16, 3)
    assert (data.name, data.factor_names, data.has_factors) == ("celeb_a, 4 faces", (), False)
