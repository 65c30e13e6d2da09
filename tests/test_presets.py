import json

import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.architecture import ladder_spec

NAMES = sorted(kp.presets.PRESETS)


def spec_of(model, name):
    """The architecture of a model with a preset, without building it."""
    settings = {"num_rungs": 1, **model.preset_settings(name)}  # a beta-VAE has no such argument
    return ladder_spec(**{name: value for name, value in settings.items() if name not in ("beta", "gamma")})


@pytest.mark.parametrize(
    ("name", "num_rungs", "latent_dim", "beta", "gamma", "epochs", "batch"),
    [
        ("shapes3d", 3, 3, 8, 0.5, 15, 100),
        ("dsprites", 3, 2, 1, 0.5, 30, 128),
        ("celeb_a", 4, 7, 1, 0.1, 5, 128),
        ("mnist", 3, 3, 1, 0.5, None, None),
    ],
)
def test_presets_hold_the_numbers_of_the_paper(name, num_rungs, latent_dim, beta, gamma, epochs, batch):
    settings = kp.ProgressiveVAE.preset_settings(name)
    assert (settings["num_rungs"], settings["beta"], settings["gamma"]) == (num_rungs, beta, gamma)
    assert spec_of(kp.ProgressiveVAE, name).latent_dim == (latent_dim,) * num_rungs
    training = kp.presets.preset(name)["training"]
    assert (training["fade_in_steps"], training["learning_rate"], training["adam_epsilon"]) == (5000, 5e-4, 1e-8)
    if epochs is not None:
        assert (training["epochs_per_rung"], training["batch_size"]) == (epochs, batch)


@pytest.mark.parametrize("name", sorted(kp.presets.RECIPES))
def test_a_recipe_builds_its_model_schedule_and_annealing(name):
    recipe = kp.presets.recipe(name)
    model, training = kp.ProgressiveVAE(**{**recipe["model"], "channels": 2, "dense": 2}), recipe["training"]
    size = kp.ProgressiveVAE.preset_settings(name)["image_shape"][0] // recipe["data"]["downscale"]
    assert model.image_shape[:2] == (size, size)
    points = kp.GrowthSchedule(unlock_iterations=training["unlock_iterations"]).unlock_points(model.num_rungs)
    assert points[-1] + training["fade_in_steps"] < training["iterations"]
    callbacks = kp.recipes.fit_callbacks(json.loads(json.dumps(recipe)))  # as results of experiments have it
    assert callbacks[0].schedule.unlock_iterations == training["unlock_iterations"]
    assert len(callbacks) == 1 + bool(training["annealing"])
    for annealing in callbacks[1:]:
        assert annealing.schedules == kp.callbacks.Annealing(**training["annealing"]).schedules
        for weight in training["annealing"]:
            assert annealing.value(weight, 0, stage=0) == recipe["model"][weight]
        last = annealing.value("beta", training["iterations"] - points[-1], stage=model.num_rungs - 1)
        assert last[-1] < recipe["model"]["beta"]  # of the deepest rung
    recipe["model"].clear()
    assert kp.presets.recipe(name)["model"]
    with pytest.raises(ValueError, match="Unknown recipe. Known: .*shapes3d.*Received: 'celeb_b'"):
        kp.presets.recipe("celeb_b")


@pytest.mark.parametrize("name", sorted(kp.presets.RECIPES))
def test_a_recipe_can_be_resized_and_stretched(name):
    whole = kp.presets.recipe(name)
    size, length = whole["model"]["image_shape"][0] // 2, whole["training"]["iterations"] // 20
    other = kp.presets.recipe(name, size=size, iterations=length)
    assert other["model"]["image_shape"][:2] == (size, size)
    assert other["data"]["downscale"] == 2 * whole["data"]["downscale"]
    assert other["model"]["beta"] == whole["model"]["beta"] / 4
    assert [20 * step for step in other["training"]["unlock_iterations"]] == whole["training"]["unlock_iterations"]
    assert 20 * other["training"]["fade_in_steps"] == whole["training"]["fade_in_steps"]
    for weight, stages in whole["training"]["annealing"].items():
        before, after = (
            kp.callbacks.Annealing(**{weight: values}) for values in (stages, other["training"]["annealing"][weight])
        )
        for stage in range(3):
            expected = np.asarray(before.value(weight, 1500, stage)) / (2 if weight == "contour_weight" else 4)
            np.testing.assert_allclose(after.value(weight, 75, stage), expected)
    rates = (recipe["training"]["learning_rate"] for recipe in (whole, other))
    rates = [[(0, rate)] if isinstance(rate, float) else rate for rate in rates]
    assert [(20 * step, rate) for step, rate in rates[1]] == rates[0]
    with pytest.raises(ValueError, match=f"`size` must divide .*Received: size={size + 1}"):
        kp.presets.recipe(name, size=size + 1)
    with pytest.raises(ValueError, match="must leave steps for every stage"):
        kp.presets.recipe(name, iterations=2)


def test_a_model_takes_its_preset_and_overrides():
    model = kp.ProgressiveVAE.from_preset("mnist", num_rungs=2, latent_dim=1, gamma=0.0)
    assert (model.preset, model.num_rungs, model.spec.latent_dim, model.beta, model.gamma) == ("mnist", 2, (1, 1), 1, 0)
    assert model.spec.image_shape == (28, 28, 1)
    assert model.spec.channels == (32, 32)


@pytest.mark.parametrize("model", [kp.VLAE, kp.BetaVAE, kp.TeacherStudentVAE])
def test_baselines_take_their_preset(model):
    built = model.from_preset("mnist", channels=2, dense=4, **({"stem": (2,)} if model is not kp.VLAE else {}))
    assert sum(built.rung_widths) == 9


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="celeb_a, dsprites, .*, shapes3d_32, shapes3d_64. Received: 'cifar'"):
        kp.ProgressiveVAE.from_preset("cifar")
    with pytest.raises(TypeError, match="has no argument num_rung. Its architecture has .*channels"):
        kp.ProgressiveVAE.from_preset("mnist", num_rung=3)


@pytest.mark.parametrize("name", NAMES)
def test_baselines_have_the_same_trunk_and_number_of_latents(name):
    progressive, beta_vae = spec_of(kp.ProgressiveVAE, name), spec_of(kp.BetaVAE, name)
    assert spec_of(kp.VLAE, name) == progressive
    assert sum(beta_vae.latent_dim) == sum(progressive.latent_dim)
    assert (*beta_vae.stem, *beta_vae.channels) == progressive.channels
    assert beta_vae.size(beta_vae.level(1)) == progressive.size(len(progressive.channels))


def test_a_preset_is_a_copy():
    kp.presets.preset("mnist")["model"]["beta"] = 100.0
    assert kp.presets.preset("mnist")["model"]["beta"] == 1.0
