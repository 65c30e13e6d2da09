import pytest

import keras_provlae as kp


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
    model = kp.ProgressiveVAE.from_preset(name)
    assert (model.num_rungs, model.beta, model.gamma) == (num_rungs, beta, gamma)
    assert model.spec.latent_dim == (latent_dim,) * num_rungs
    training = kp.presets.preset(name)["training"]
    assert (training["fade_in_steps"], training["learning_rate"], training["adam_epsilon"]) == (5000, 5e-4, 1e-8)
    if epochs is not None:
        assert (training["epochs_per_rung"], training["batch_size"]) == (epochs, batch)


def test_overrides_replace_the_preset():
    model = kp.ProgressiveVAE.from_preset("mnist", num_rungs=4, latent_dim=1, gamma=0.0)
    assert (model.num_rungs, model.spec.latent_dim, model.gamma) == (4, (1, 1, 1, 1), 0.0)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="celeb_a, dsprites, mnist, shapes3d. Received: 'cifar'"):
        kp.ProgressiveVAE.from_preset("cifar")
    with pytest.raises(TypeError, match="has no argument num_rung. Its architecture has .*channels"):
        kp.ProgressiveVAE.from_preset("mnist", num_rung=3)


@pytest.mark.parametrize("name", sorted(kp.presets.PRESETS))
def test_baselines_take_the_same_trunk_and_number_of_latents(name):
    progressive = kp.ProgressiveVAE.from_preset(name)
    vlae, beta_vae = kp.VLAE.from_preset(name), kp.BetaVAE.from_preset(name)
    assert vlae.spec == progressive.spec
    assert sum(beta_vae.spec.latent_dim) == sum(progressive.spec.latent_dim)
    assert (*beta_vae.spec.stem, *beta_vae.spec.channels) == progressive.spec.channels
    depth = progressive.num_rungs
    assert beta_vae.spec.size(beta_vae.spec.level(1)) == progressive.spec.size(depth)


def test_a_preset_is_a_copy():
    kp.presets.preset("mnist")["model"]["beta"] = 100.0
    assert kp.presets.preset("mnist")["model"]["beta"] == 1.0
