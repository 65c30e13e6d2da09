import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp

EPOCHS = 10


def at_stage(model, stage, alpha=1.0):
    for _ in range(stage):
        model.grow(fade_in_steps=100)
    model.iteration_variable.assign(round(100 * alpha))
    return model


@pytest.fixture(scope="module")
def trained(acceleration):
    """The model of a whole training of two stages, the images, and the history."""
    keras.utils.set_random_seed(0)
    row, column = np.mgrid[0:8, 0:8]
    center = np.random.default_rng(0).uniform(1, 6, (200, 2, 1, 1))
    images = np.exp(-((row - center[:, 0]) ** 2 + (column - center[:, 1]) ** 2) / 4)[..., None].astype("float32")
    model = kp.ProgressiveVAE((8, 8, 1), 2, latent_dim=2, channels=8, dense=None, beta=0.2, gamma=0.5)
    model.compile(kp.optimizers.adam(6e-3))
    growth = kp.GrowthCallback(fade_in_steps=20)
    history = model.fit(images, batch_size=20, epochs=EPOCHS, callbacks=[growth], verbose=0).history
    return model, images, history


def test_gates_and_weights_of_every_stage(make_model):
    model = make_model(beta=8.0, gamma=0.5)
    for stage, encoder_gates, decoder_gates, kl_weights in (
        (0, [1, 1, 1], [1, 0, 0], [8, 0.5, 0.5]),
        (1, [1, 0.25, 1], [1, 0.25, 0], [8, 8, 0.5]),
        (2, [1, 1, 0.25], [1, 1, 0.25], [8, 8, 8]),
    ):
        if stage > 0:
            model.grow(fade_in_steps=100)
            model.iteration_variable.assign_add(25)
        np.testing.assert_allclose(model.encoder_gates(), encoder_gates)
        np.testing.assert_allclose(model.decoder_gates(), decoder_gates)
        np.testing.assert_allclose(model.kl_weights(), kl_weights)


def test_alpha_is_the_completed_share_of_the_fade(make_model):
    model = make_model(num_rungs=3, dense=None)
    for steps, error in (-1, ValueError), (2.5, TypeError), ("3", TypeError):
        with pytest.raises(error, match="fade_in_steps"):
            model.grow(fade_in_steps=steps)
    with pytest.raises(ValueError, match="`to_stage` must be at most 2. Received: to_stage=3"):
        model.grow(to_stage=3)
    assert (model.stage, model.alpha) == (0, 1.0)
    model.iteration_variable.assign(7)
    model.grow(fade_in_steps=8)
    assert model.unlocked_rungs == [3, 2]
    for steps, alpha in (0, 0.0), (1, 0.125), (8, 1.0), (1000, 1.0):
        model.iteration_variable.assign(7 + steps)
        assert model.alpha == alpha
    model.iteration_variable.assign(20_000_001)  # float32 cannot hold this number
    model.grow(fade_in_steps=5000)
    model.iteration_variable.assign(20_000_004)
    assert model.alpha == np.float32(3 / 5000)
    with pytest.raises(ValueError, match="All 3 rungs are unlocked"):
        model.grow()


def test_rungs_can_be_unlocked_together_and_at_once(make_model):
    model = make_model(dense=None)
    model.grow(fade_in_steps=0, to_stage=2)
    assert (model.stage, model.alpha, model.is_grown) == (2, 1.0, True)


def test_the_loss_is_that_of_equation_11(make_model, images, acceleration):
    model = at_stage(make_model(beta=3.0, gamma=0.25), stage=1, alpha=0.5)
    outputs = {
        name: ops.convert_to_numpy(value).astype("float64") for name, value in model(images, training=True).items()
    }
    loss = float(model.compute_loss(x=images, y_pred={k: v.astype("float32") for k, v in outputs.items()}))

    p = 1 / (1 + np.exp(-outputs["logits"]))
    reconstruction = -(images * np.log(p) + (1 - images) * np.log(1 - p)).sum((1, 2, 3)).mean()
    kl = 0.5 * (outputs["mean"] ** 2 + np.exp(outputs["log_var"]) - 1 - outputs["log_var"]).mean(0)
    kl = kl.reshape(3, 2).sum(1)  # rungs 3, 2, 1
    assert loss == pytest.approx(reconstruction + 3.0 * (kl[0] + kl[1]) + 0.25 * kl[2], rel=1e-5)
    metrics = {metric.name: float(metric.result()) for metric in model.metrics}
    assert metrics["kl"] == pytest.approx(kl[0] + kl[1], rel=1e-5)  # the ELBO of the rungs that generate
    assert metrics["elbo"] == pytest.approx(-reconstruction - kl[0] - kl[1], rel=1e-5)
    for rung, value in zip((3, 2, 1), kl, strict=True):
        assert metrics[f"kl_rung_{rung}"] == pytest.approx(value, rel=1e-4)
    assert (metrics["stage"], metrics["alpha"]) == (1, 0.5)


def test_a_grown_model_is_a_vlae(make_model, images):
    progressive = at_stage(make_model(beta=4.0, gamma=0.5), stage=2)
    vlae = make_model(kp.VLAE, beta=4.0)
    for ours, theirs in zip(vlae.trainable_variables, progressive.trainable_variables, strict=True):
        ours.assign(theirs)
    losses = []
    for model in progressive, vlae:
        model.sampling.seed_generator.state.assign(ops.zeros_like(model.sampling.seed_generator.state))
        losses.append(float(model.compute_loss(x=images, y_pred=model(images))))
    assert losses[0] == pytest.approx(losses[1], rel=1e-7)


def test_a_locked_rung_does_not_reach_the_image(make_model):
    model = at_stage(make_model(), stage=1, alpha=1.0)
    codes = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")
    codes[1] = codes[0]
    codes[1, 4:] += 1.0  # rung 1, locked
    first, second = ops.convert_to_numpy(model.decode(codes))
    np.testing.assert_array_equal(first, second)
    codes[1, 2:4] += 1.0  # rung 2, unlocked
    first, second = ops.convert_to_numpy(model.decode(codes))
    assert not np.array_equal(first, second)


def test_training_lowers_the_loss_and_uses_every_rung(trained):
    model, _, history = trained
    assert (model.stage, model.alpha, model.iteration) == (1, 1.0, 10 * EPOCHS)
    assert history["stage"] == [0] * 5 + [1] * 5
    np.testing.assert_allclose(history["alpha"], [1] * 5 + [0.5, 1, 1, 1, 1], atol=0.06)
    assert history["reconstruction"][-1] < 0.7 * history["reconstruction"][0]
    assert history["kl_rung_2"][4] > 0.5
    assert history["kl_rung_1"][4] < 0.1  # the prior while locked
    assert history["kl_rung_1"][-1] > 0.5


def test_a_trained_model_comes_back_from_its_files(trained, tmp_path):
    model, images, _ = trained
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert (loaded.stage, loaded.alpha, loaded.iteration, loaded.fade_in_steps) == (1, 1.0, 10 * EPOCHS, 20)
    np.testing.assert_array_equal(model.reconstruct(images[:8]), loaded.reconstruct(images[:8]))
    assert int(loaded.optimizer.iterations) == 10 * EPOCHS
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_with_alpha_in_float32(images, make_model, policy):
    model = make_model(num_rungs=2, dense=None, dtype=policy)
    model.compile(kp.optimizers.adam(3e-3), run_eagerly=True)
    model.grow(fade_in_steps=4096)
    losses = [model.train_on_batch(images) for _ in range(3)]
    assert losses[-1] < losses[0]
    assert model.encoder.get_layer("h_1").compute_dtype == policy.removeprefix("mixed_")
    model.iteration_variable.assign(2049)  # float16 would make it 2048
    assert model.alpha == 2049 / 4096


@pytest.mark.parametrize("name", ["beta", "gamma"])
def test_weights_of_the_kl_must_be_finite_and_not_negative(make_model, name):
    for value in -1.0, float("nan"), float("inf"):
        with pytest.raises(ValueError, match=f"`{name}` must be a number >= 0. Received: {name}={value}"):
            make_model(**{name: value})
    with pytest.raises(TypeError, match=f"`{name}` must be a number. Received: {name}='4'"):
        make_model(**{name: "4"})


@pytest.mark.parametrize("cls", [kp.ProgressiveVAE, kp.TeacherStudentVAE])
def test_alpha_rises_with_the_steps_of_a_custom_training_loop(make_model, images, cls):
    model, optimizer = make_model(cls, num_rungs=2, stem=(4,), dense=None), keras.optimizers.SGD(1e-3)
    model.grow(fade_in_steps=4)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=images, y_pred=model(images, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        model.compute_loss(x=images, y_pred=model(images), training=False)
    assert (model.iteration, model.alpha) == (2, 0.5 if model.fades_in else 1.0)
