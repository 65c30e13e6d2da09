import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp


def at_stage(model, stage, alpha=1.0):
    for _ in range(stage):
        model.grow(fade_in_steps=100)
    model.iteration_variable.assign(round(100 * alpha))
    return model


@pytest.mark.parametrize(
    ("stage", "encoder_gates", "decoder_gates", "kl_weights"),
    [
        (0, [1, 1, 1], [1, 0, 0], [8, 0.5, 0.5]),
        (1, [1, 0.25, 1], [1, 0.25, 0], [8, 8, 0.5]),
        (2, [1, 1, 0.25], [1, 1, 0.25], [8, 8, 8]),
    ],
)
def test_gates_and_weights_of_every_stage(make_model, stage, encoder_gates, decoder_gates, kl_weights):
    model = at_stage(make_model(beta=8.0, gamma=0.5), stage, alpha=0.25)
    np.testing.assert_allclose(model.encoder_gates(), encoder_gates)
    np.testing.assert_allclose(model.decoder_gates(), decoder_gates)
    np.testing.assert_allclose(model.kl_weights(), kl_weights)


def test_alpha_is_the_share_of_the_fade_that_is_over(make_model):
    model = make_model()
    assert (model.stage, model.alpha) == (0, 1.0)
    model.iteration_variable.assign(7)
    model.grow(fade_in_steps=8)
    for steps, alpha in (0, 0.0), (1, 0.125), (8, 1.0), (1000, 1.0):
        model.iteration_variable.assign(7 + steps)
        assert model.alpha == alpha
    model.grow(fade_in_steps=0)
    assert model.alpha == 1.0
    with pytest.raises(ValueError, match="All 3 rungs are unlocked"):
        model.grow()
    for steps, error in (-1, ValueError), (2.5, TypeError), ("3", TypeError):
        with pytest.raises(error, match="fade_in_steps"):
            make_model().grow(fade_in_steps=steps)


def test_alpha_is_exact_for_long_trainings(make_model):
    model = make_model()
    model.iteration_variable.assign(20_000_001)  # float32 cannot hold this number
    model.grow(fade_in_steps=5000)
    model.iteration_variable.assign(20_000_004)
    assert model.alpha == np.float32(3 / 5000)


def test_the_loss_is_that_of_equation_11(make_model, images):
    model = at_stage(make_model(beta=3.0, gamma=0.25), stage=1, alpha=0.5)
    model.compile()
    outputs = {name: ops.convert_to_numpy(value).astype("float64") for name, value in model(images).items()}
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
        model.compile()
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


def test_training_lowers_the_loss_and_uses_every_rung(images, make_model):
    model = make_model(channels=8, dense=32, beta=0.2)
    model.compile(kp.optimizers.adam(3e-3))
    images = np.concatenate([images] * 6)  # an epoch costs more than its steps do
    history = model.fit(images, batch_size=10, epochs=15, callbacks=[kp.GrowthCallback()], verbose=0).history
    assert history["reconstruction"][-1] < 0.7 * history["reconstruction"][0]
    for rung, stage in (3, 0), (2, 1), (1, 2):
        kl = history[f"kl_rung_{rung}"]
        assert kl[5 * (stage + 1) - 1] > 0.5
        assert stage == 0 or kl[5 * stage - 1] < 0.05  # nothing while locked


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_with_alpha_in_float32(images, make_model, policy):
    model = make_model(num_rungs=2, dtype=policy, channels=8, dense=32)
    model.compile(kp.optimizers.adam(3e-3))
    assert model.encoder.get_layer("h_1").compute_dtype == policy.removeprefix("mixed_")
    history = model.fit(images, batch_size=20, epochs=12, callbacks=[kp.GrowthCallback()], verbose=0).history
    assert model.stage == 1
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    mean, log_var = model.encode(images)
    assert {keras.backend.standardize_dtype(x.dtype) for x in (mean, log_var, model.decode(mean))} == {"float32"}
    model.iteration_variable.assign(2049)  # float16 would make it 2048
    model.unlocked_at_variable.assign(0)
    model.fade_in_steps_variable.assign(4096)
    assert model.alpha == 2049 / 4096
    with_autocast = model(images)
    assert keras.backend.standardize_dtype(with_autocast["logits"].dtype) == "float32"


def test_a_model_comes_back_from_a_keras_file(make_model, images, tmp_path):
    model = make_model(beta=2.0, gamma=0.125, latent_dim=(1, 2, 3), stem=(), activation="leaky_relu")
    model.compile()
    model.fit(images, batch_size=20, epochs=1, verbose=0)
    model.grow(fade_in_steps=8)
    model.fit(images, batch_size=20, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is kp.ProgressiveVAE
    assert (loaded.stage, loaded.alpha, loaded.iteration, loaded.fade_in_steps) == (1, 0.25, 4, 8)
    assert (loaded.beta, loaded.gamma, loaded.spec) == (2.0, 0.125, model.spec)
    np.testing.assert_array_equal(model.reconstruct(images), loaded.reconstruct(images))
    assert int(loaded.optimizer.iterations) == 4


def test_weights_carry_the_stage_and_the_moments_of_adam(make_model, images, tmp_path):
    model = make_model(num_rungs=2)
    model.compile()
    model.grow(fade_in_steps=10)
    model.fit(images, batch_size=20, epochs=1, verbose=0)
    model.save_weights(tmp_path / "state.weights.h5")
    other = make_model(num_rungs=2)
    other.compile()
    other.load_weights(tmp_path / "state.weights.h5")
    assert (other.stage, other.alpha, other.iteration) == (1, model.alpha, 2)
    for ours, theirs in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["beta", "gamma"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_weights_of_the_kl_must_not_be_negative(make_model, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a number >= 0. Received: {name}={value}"):
        make_model(**{name: value})
    with pytest.raises(TypeError, match=f"`{name}` must be a number. Received: {name}='4'"):
        make_model(**{name: "4"})


@pytest.mark.parametrize("cls", [kp.ProgressiveVAE, kp.TeacherStudentVAE])
def test_alpha_rises_with_the_steps_of_a_training_loop_of_ones_own(make_model, images, cls):
    model, optimizer = make_model(cls, num_rungs=2), keras.optimizers.SGD(1e-3)
    model.grow(fade_in_steps=4)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=images, y_pred=model(images, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        model.compute_loss(x=images, y_pred=model(images), training=False)
    assert (model.iteration, model.alpha) == (2, 0.5 if model.fades_in else 1.0)
