"""Names of latents: in files, pictures and exports."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.export import metadata

NAMES = ("floor hue", "", "scale", "")


@pytest.fixture(scope="module")
def named():
    model = kp.ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=2, channels=2, dense=None)
    model.grow(fade_in_steps=0)
    model.latent_names = list(NAMES)
    return model


def test_files_and_copies_keep_the_names(named, tmp_path):
    named.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").latent_names == NAMES
    assert kp.ProgressiveVAE.from_config(named.get_config()).latent_names == NAMES
    other = kp.ProgressiveVAE.from_config({**named.get_config(), "latent_names": None})
    assert other.latent_names is None
    assert "latent_names" not in other.get_config()


def test_pictures_and_exports_show_the_names(named):
    rng = np.random.default_rng(0)
    figure = kp.visualization.traversals(named, rng.random((1, 8, 8, 1), "float32"))
    texts = [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]
    assert texts == ["z₂[0] floor hue", "z₂[1]", "z₁[0] scale", "z₁[1]"]
    mean, factors = rng.normal(size=(50, 4)), rng.integers(0, 3, (50, 2))
    information = kp.metrics.mutual_information(mean, np.zeros((50, 4)), factors)
    heatmap = kp.visualization.mutual_information_heatmap(information, named.rung_slices, latent_names=NAMES)
    assert [text.get_text() for text in heatmap.axes[0].get_yticklabels()] == texts
    responses = kp.visualization.latent_responses(mean, mean, factors, named.rung_slices, latent_names=NAMES)
    assert [text.get_text() for text in responses.axes[0].get_yticklabels()] == texts
    plt.close("all")
    assert metadata.describe(named)["latent_names"] == NAMES


@pytest.mark.parametrize("names", [["a"], "abcd", ["a", "b", "c", 4]])
def test_names_must_be_one_text_for_each_latent(named, names):
    with pytest.raises((TypeError, ValueError), match="`latent_names` must"):
        named.latent_names = names
    with pytest.raises(ValueError, match="`latent_names` must have a name for each of 3 latents"):
        kp.visualization.latent_responses(np.eye(4, 3), -np.ones((4, 3)), [0, 1, 0, 1], latent_names=["a", "b"])
