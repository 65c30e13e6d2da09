import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp

SMALL = {"image_shape": (8, 8, 1), "channels": 4, "dense": 8}


@pytest.fixture(scope="module")
def model():
    """A model of three rungs of unequal widths that trains eagerly; no test leaves it changed."""
    model = kp.VLAE(**SMALL, num_rungs=3, latent_dim=(1, 2, 3))
    model.compile(run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def flat():
    """A model of one rung, for tests that do not depend on the ladder."""
    model = kp.VLAE(**SMALL, num_rungs=1, latent_dim=1)
    model.compile(run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def compiled(acceleration):
    """A small model that counts its steps, traced once for the module."""
    model = kp.ProgressiveVAE((8, 8, 1), num_rungs=1, latent_dim=2, channels=2, dense=None)
    model.compile()
    return model


def test_codes_have_one_column_per_latent_deepest_rung_first(model, images):
    mean, log_var = model.encode(images)
    assert tuple(mean.shape) == tuple(log_var.shape) == (40, 6)
    assert model.rung_slices == [(3, slice(0, 3)), (2, slice(3, 5)), (1, slice(5, 6))]
    # the head of the shallowest rung gives the last column
    bias = model.encoder.get_layer("mean_1").bias
    bias.assign([7.0])
    changed, _ = model.encode(images)
    bias.assign([0.0])
    np.testing.assert_array_equal(mean[:, :5], changed[:, :5])
    np.testing.assert_allclose(changed[:, 5] - mean[:, 5], 7.0, rtol=1e-5)


def test_reconstructions_decode_the_means(model, images):
    reconstructed = ops.convert_to_numpy(model.reconstruct(images))
    mean, _ = model.encode(images)
    np.testing.assert_array_equal(reconstructed, model.decode(mean))
    assert reconstructed.shape == images.shape
    assert 0 <= reconstructed.min() <= reconstructed.max() <= 1


def test_samples_repeat_with_their_seed(model):
    first, second, other = (ops.convert_to_numpy(model.sample(5, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert not np.array_equal(model.sample(5), model.sample(5))


@pytest.mark.parametrize("rung", [1, 2, 3])
def test_samples_of_one_rung_hold_the_others(model, images, rung, monkeypatch):
    decoded = []
    monkeypatch.setattr(model, "decode", lambda codes: decoded.append(ops.convert_to_numpy(codes)))
    model.sample(500, rung=rung, around=images[:1], seed=0)
    model.sample(500, rung=rung, seed=0)
    columns = dict(model.rung_slices)[rung]
    held, _ = model.encode(images[:1])
    for codes, others in zip(decoded, (ops.convert_to_numpy(held), np.zeros((1, 6))), strict=True):
        drawn = codes[:, columns]
        assert abs(drawn.mean()) < 0.15
        assert drawn.std() == pytest.approx(1.0, abs=0.1)
        rest = np.delete(codes, columns, axis=1)
        np.testing.assert_array_equal(rest, np.repeat(np.delete(others, columns, axis=1), 500, axis=0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 1, "rung": 4}, r"`rung` must be 1 .. 3. Received: rung=4"),
        ({"n": 1, "around": np.zeros((1, 8, 8, 1), "float32")}, "`around` needs the `rung`"),
        ({"n": 1, "rung": 1, "around": np.zeros((2, 8, 8, 1), "float32")}, r"one image.*\(2, 8, 8, 1\)"),
    ],
)
def test_bad_arguments_of_sample_raise(model, settings, message):
    with pytest.raises(ValueError, match=message):
        model.sample(**settings)


@pytest.mark.parametrize("shape", [(2, 5), (2, 7), (6,), (2, 6, 1)])
def test_codes_of_another_shape_raise(model, shape):
    for decode in model.decode, model.decode_on_batch:
        with pytest.raises(ValueError, match=r"shape \(batch, 6\).*\(3, 2, 1\).*Received: codes.shape"):
            decode(np.zeros(shape, "float32"))


# === Bad images ===


def bad_images(images):
    with_nan = images.copy()
    with_nan[30, 2, 2, 0] = np.nan
    return {
        "too bright": (images * 2, ValueError, r"in \[0, 1\].*received: .*, 1\.9"),
        "negative": (images - 0.5, ValueError, r"in \[0, 1\].*received: -0\.[45]"),
        "nan": (with_nan, ValueError, r"finite values in \[0, 1\].*nan"),
        "integers": ((255 * images).astype("uint8"), TypeError, "dtype=uint8.*/ 255"),
        "rank": (images[..., 0], ValueError, r"\(batch, 8, 8, 1\).*Received: images.shape=\(\w+, 8, 8\)"),
        "size": (images[:, :7], ValueError, r"Received: images.shape=\(\w+, 7, 8, 1\)"),
        "channels": (np.repeat(images, 3, axis=-1), ValueError, r"Received: images.shape=\(\w+, 8, 8, 3\)"),
    }


CASES = ["too bright", "negative", "nan", "integers", "rank", "size", "channels"]


def dataset(images):
    return tf.data.Dataset.from_tensor_slices(images).batch(8)


@pytest.mark.parametrize("case", CASES)
def test_every_method_refuses_bad_images(flat, images, case):
    bad, error, message = bad_images(images)[case]
    before = [np.array(weight) for weight in flat.get_weights()]
    for enter in (
        flat.encode,
        flat.encode_on_batch,
        lambda x: flat.encode(tf.constant(x)),
        lambda x: flat.predict(x, verbose=0),
        flat.train_on_batch,
        flat.test_on_batch,
        flat.reconstruct,
        lambda x: flat.fit(x, verbose=0),
        lambda x: flat.evaluate(x, verbose=0),
        lambda x: flat.fit(dataset(x).skip(3), verbose=0),  # begins with the NaN
        lambda x: flat.evaluate(dataset(x), verbose=0),
    ):
        with pytest.raises(error, match=message):
            enter(bad)
    for old, new in zip(before, flat.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def state(model):
    return [np.array(ops.convert_to_numpy(v)) for v in (*model.variables, *model.optimizer.variables)]


def test_a_bad_batch_stops_a_training_and_is_no_step(compiled, images):
    """Weights, moments and counters stay as the last good batch left them."""
    after = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            after.append(state(self.model))

    images[30] = np.nan
    with pytest.raises(kp.InvalidImagesError, match="finite values"):
        compiled.fit(dataset(images), callbacks=[Record()], verbose=0)
    assert len(after) == 3
    for last_good, now in zip(after[-1], state(compiled), strict=True):
        np.testing.assert_array_equal(last_good, now)
    with pytest.raises(kp.InvalidImagesError, match="Divide 8-bit images by 255"):
        compiled.fit(dataset(images * 255), verbose=0)  # already at the first batch
    for last_good, now in zip(after[-1], state(compiled), strict=True):
        np.testing.assert_array_equal(last_good, now)


def test_a_loss_that_is_not_finite_stops_a_training_and_changes_no_weight(compiled, images):
    bias = compiled.encoder.get_layer("mean_1").bias
    bias.assign([1e30, 0])
    before = [np.array(weight) for weight in compiled.trainable_variables]
    with pytest.raises(kp.NonFiniteLossError, match="loss is not finite.*reconstruction.*KL inf"):
        compiled.fit(dataset(images), verbose=0)
    for old, new in zip(before, compiled.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)
    bias.assign([0, 0])


def test_xla_stops_at_bad_images_and_at_a_broken_loss(images):
    model = kp.VLAE((8, 8, 1), num_rungs=1, latent_dim=1, channels=1, dense=None)
    model.compile("sgd", jit_compile=True)
    with pytest.raises(ValueError, match="finite values"):
        model.fit(dataset(images * 255), verbose=0)
    model.encoder.get_layer("mean_1").bias.assign([1e30])
    with pytest.raises(ValueError, match="loss is not finite"):
        model.fit(dataset(images), verbose=0)


def test_labels_are_ignored_and_dicts_are_explained(flat, images):
    labelled = tf.data.Dataset.from_tensor_slices((images, np.zeros(40))).batch(20)
    assert "loss" in flat.fit(labelled, verbose=0).history
    dicts = tf.data.Dataset.from_tensor_slices({"image": images}).batch(8)
    with pytest.raises(TypeError, match=r"a dict with the keys \['image'\]. For a dict use `ds.map"):
        flat.fit(dicts, verbose=0)


def test_a_generator_of_bad_images_stops_at_its_first_batch(flat, images):
    with pytest.raises(ValueError, match="finite values"):
        flat.fit(((images * 255,) for _ in range(2)), steps_per_epoch=1, verbose=0)


# === What Keras promises ===


def test_fit_takes_its_arguments_by_position_too(flat, images):
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    flat.fit(images, None, 40, 2, 0, [callback])
    flat.fit(images, batch_size=40, epochs=1, verbose=0, callbacks=callback)
    assert seen == [0, 1, 0]


def test_the_model_exports(flat, images, tmp_path):
    flat(images)  # Keras exports only models that were called
    flat.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    mean = exported.serve(images)["mean"]
    np.testing.assert_allclose(mean, flat.encode(images)[0], rtol=1e-5, atol=1e-6)


def test_a_loss_and_sample_weights_raise(flat, images):
    with pytest.raises(ValueError, match="its own loss.*leave out `loss`"):
        flat.compile(loss="mse")
    for enter in flat.fit, flat.evaluate:
        with pytest.raises(ValueError, match="leave out `sample_weight`"):
            enter(images, sample_weight=np.ones(40), verbose=0)


def test_the_default_optimizer_is_the_papers():
    optimizer = kp.VLAE.default_optimizer()
    assert type(optimizer) is kp.optimizers.FusedAdam
    assert (float(optimizer.learning_rate), optimizer.epsilon) == (np.float32(5e-4), 1e-8)


def test_gaussian_likelihood(make_model, images):
    model = make_model(kp.VLAE, num_rungs=1, likelihood="gaussian", beta=0.0)
    outputs = {name: ops.convert_to_numpy(value) for name, value in model(images).items()}
    squares = (images - 1 / (1 + np.exp(-outputs["logits"]))) ** 2
    expected = (0.5 * squares + 0.5 * np.log(2 * np.pi)).sum((1, 2, 3)).mean()
    assert float(model.compute_loss(x=images, y_pred=outputs)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"\['bernoulli', 'gaussian'\]. Received: 'poisson'"):
        make_model(likelihood="poisson")


def test_predict_returns_posteriors_and_logits_of_all_batches(model, images):
    outputs = model.predict(images, batch_size=16, verbose=0)
    mean, log_var = model.encode(images)
    np.testing.assert_allclose(outputs["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs["log_var"], log_var, rtol=1e-5, atol=1e-6)
    assert outputs["logits"].shape == images.shape


def test_the_abstract_model_cannot_be_built():
    with pytest.raises(TypeError, match="abstract"):
        kp.LadderVAE((8, 8, 1), 2, 2)


def test_unknown_arguments_raise(make_model):
    with pytest.raises(TypeError, match="VLAE has no argument depth. Its architecture has activation, channels"):
        make_model(kp.VLAE, depth=3)
    with pytest.raises(ValueError, match="`rung_widths` must divide"):
        make_model(kp.VLAE, rung_widths=(3, 2))


def test_beta_vae_is_one_rung():
    model = kp.BetaVAE((28, 28, 1), latent_dim=9, beta=4.0)
    assert (model.num_rungs, model.spec.size(model.spec.level(1))) == (1, (4, 4))
    np.testing.assert_array_equal(model.kl_weights(), [4.0])
    with pytest.raises(ValueError, match="use VLAE for more. Received: num_rungs=2"):
        kp.BetaVAE((28, 28, 1), 9, num_rungs=2)


def test_compiled_encoding_and_decoding_are_the_eager_ones(make_model, images, monkeypatch):
    """At any batch size and stage, and traced once: the gates reach the compiled functions."""
    model, traced = make_model(latent_dim=(1, 2, 3)), []
    for network in model.encoder, model.decoder:
        step = network.predict_step
        monkeypatch.setattr(network, "predict_step", lambda data, step=step: traced.append(1) or step(data))
    for stage in range(3):
        for batch in images[:7], images[:3]:
            found = model.encode_on_batch(batch)
            for part, expected in zip(found, model.encode(batch), strict=True):
                assert isinstance(part, np.ndarray)
                np.testing.assert_allclose(part, ops.convert_to_numpy(expected), atol=1e-5)
            decoded = model.decode_on_batch(found[0])
            assert isinstance(decoded, np.ndarray)
            np.testing.assert_allclose(decoded, ops.convert_to_numpy(model.decode(found[0])), atol=1e-6)
        if stage < 2:
            model.grow(fade_in_steps=2 * stage)  # alpha is 1, then 0
    assert len(traced) == 2


# === Total correlation ===


@pytest.mark.parametrize("cls", [kp.ProgressiveVAE, kp.VLAE])
def test_a_total_correlation_term_goes_with_any_ladder(make_model, images, cls):
    model = make_model(cls, num_rungs=2, tc_weight=3.0, dataset_size=1000)
    model.compile(run_eagerly=True)
    # two latents of the deepest rung that carry the same information
    for name in ("mean_2", "log_var_2"):
        head = model.encoder.get_layer(name)
        head.kernel.assign(np.repeat(ops.convert_to_numpy(head.kernel)[:, :1] * (100 if name == "mean_2" else 0), 2, 1))
        head.bias.assign([-3.0, -3.0] if name == "log_var_2" else [0.0, 0.0])
    logs = model.test_on_batch(images, return_dict=True)
    assert logs["tc_estimate"] > 0.5
    weighed = sum(
        float(weight) * logs[f"kl_rung_{rung}"] for weight, rung in zip(model.kl_weights(), (2, 1), strict=True)
    )
    expected = logs["reconstruction"] + weighed + 3.0 * logs["tc_estimate"]
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_total_correlation_is_that_of_unlocked_rungs_and_has_a_gradient(make_model, images):
    model = make_model(latent_dim=2, tc_weight=1.0, dataset_size=1000)
    random = np.random.default_rng(0)
    y_pred = {name: random.standard_normal((40, 6)).astype("float32") for name in ("codes", "mean")}
    y_pred["log_var"] = np.zeros((40, 6), "float32")
    y_pred = {name: tf.Variable(value) for name, value in y_pred.items()}
    with tf.GradientTape() as tape:
        estimate = model.further_terms(images, y_pred)["tc_estimate"]
    alone = kp.losses.total_correlation(*(value[:, :2] for value in y_pred.values()), 1000)
    assert float(estimate) == pytest.approx(float(ops.mean(alone)), abs=1e-5)
    for gradient in tape.gradient(estimate, list(y_pred.values())):
        assert np.abs(gradient[:, :2]).min() > 0
        assert not np.any(gradient[:, 2:])


def test_a_total_correlation_term_needs_the_number_of_images(make_model):
    with pytest.raises(TypeError, match="dataset_size=None"):
        make_model(kp.VLAE, tc_weight=1.0)
    with pytest.raises(ValueError, match="tc_weight"):
        make_model(kp.VLAE, tc_weight=-1.0, dataset_size=10)
