import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp


@pytest.fixture
def model(make_model):
    model = make_model(kp.VLAE, latent_dim=(1, 2, 3))
    model.compile()
    return model


@pytest.fixture
def flat(make_model):
    """A model of one rung, for what does not depend on the ladder: its steps are traced three times as fast."""
    model = make_model(kp.VLAE, num_rungs=1, latent_dim=1)
    model.compile()
    return model


def test_codes_have_one_column_per_latent_deepest_rung_first(model, images):
    mean, log_var = model.encode(images)
    assert tuple(mean.shape) == tuple(log_var.shape) == (40, 6)
    assert model.rung_slices == [(3, slice(0, 3)), (2, slice(3, 5)), (1, slice(5, 6))]
    # the shallowest rung reads h_1: a head silenced there changes the last column alone
    model.encoder.get_layer("mean_1").bias.assign([7.0])
    changed, _ = model.encode(images)
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
def test_bad_samples_are_refused(model, settings, message):
    with pytest.raises(ValueError, match=message):
        model.sample(**settings)


@pytest.mark.parametrize("shape", [(2, 5), (2, 7), (6,), (2, 6, 1)])
def test_codes_of_another_width_are_refused(model, shape):
    with pytest.raises(ValueError, match=r"shape \(batch, 6\).*\(3, 2, 1\).*Received: codes.shape"):
        model.decode(np.zeros(shape, "float32"))


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
def test_bad_images_are_refused_wherever_they_enter(flat, images, case):
    bad, error, message = bad_images(images)[case]
    before = [np.array(weight) for weight in flat.get_weights()]
    for enter in (
        flat.encode,
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
        np.testing.assert_array_equal(old, new)  # nothing is lost


def test_a_bad_batch_in_the_middle_changes_no_weight(model, images):
    images[30] = np.nan
    weights = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights[:] = self.model.get_weights()

    with pytest.raises(ValueError, match="finite values"):
        model.fit(dataset(images), callbacks=[Record()], verbose=0)
    for last_good, now in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(last_good, now)


def test_a_loss_that_is_not_finite_stops_the_training_and_changes_no_weight(model, images):
    model.encoder.get_layer("mean_1").bias.assign([1e30])
    before = [np.array(weight) for weight in model.trainable_variables]
    with pytest.raises(ValueError, match="loss is not finite.*reconstruction.*KL inf"):
        model.fit(images, verbose=0)
    for old, new in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)


def test_datasets_with_labels_are_read_and_dicts_are_explained(flat, images):
    labelled = tf.data.Dataset.from_tensor_slices((images, np.zeros(40))).batch(8)
    assert "loss" in flat.fit(labelled, verbose=0).history
    dicts = tf.data.Dataset.from_tensor_slices({"image": images}).batch(8)
    with pytest.raises(TypeError, match=r"a dict with the keys \['image'\]. For a dict use `ds.map"):
        flat.fit(dicts, verbose=0)


def test_a_generator_of_wrong_images_is_refused_at_its_first_batch(flat, images):
    def batches():
        while True:
            yield (images * 255,)

    with pytest.raises(ValueError, match="finite values"):
        flat.fit(batches(), steps_per_epoch=1, verbose=0)


def test_xla_does_not_let_bad_images_or_a_broken_loss_pass(flat, images):
    flat.compile(jit_compile=True)
    with pytest.raises(ValueError, match="finite values"):
        flat.fit(dataset(images * 255), verbose=0)
    flat.encoder.get_layer("mean_1").bias.assign([1e30])
    with pytest.raises(ValueError, match="loss is not finite"):
        flat.fit(dataset(images), verbose=0)


def test_a_bad_batch_is_no_step(make_model, images):
    model = make_model(num_rungs=2)
    model.compile()
    model.fit(images, verbose=0)
    before = [np.array(v) for v in (*model.variables, *model.optimizer.variables)]
    with pytest.raises(ValueError, match="finite values"):
        model.fit(dataset(images * 255), verbose=0)
    for old, new in zip(before, (*model.variables, *model.optimizer.variables), strict=True):
        np.testing.assert_array_equal(old, new)


def test_data_sets_are_read_without_the_autotuner_unless_asked_for(flat, images, monkeypatch):
    seen = {}

    def note(self, x, *args, validation_data=None, **kwargs):
        seen.update(x=x, validation_data=validation_data)

    monkeypatch.setattr(keras.Model, "fit", note)
    options = tf.data.Options()
    options.deterministic = True
    ds = dataset(images)
    for one in ds, ds.with_options(options):
        flat.fit(one, validation_data=one)
        for read in seen.values():
            assert read.options().autotune.enabled is False
            assert read.options().deterministic == one.options().deterministic
    options.autotune.enabled = True
    flat.fit(ds.with_options(options), validation_data=(images, None))
    assert seen["x"].options().autotune.enabled
    assert seen["validation_data"] == (images, None)


def test_fit_takes_its_arguments_by_position_too(flat, images):
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    flat.fit(images, None, 20, 2, 0, [callback])
    flat.fit(images, epochs=1, verbose=0, callbacks=callback)
    assert seen == [0, 1, 0]


def test_the_model_exports(model, images, tmp_path):
    model(images)  # Keras exports what was called
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    mean = exported.serve(images)["mean"]
    np.testing.assert_allclose(mean, model.encode(images)[0], rtol=1e-5, atol=1e-6)


def test_loss_and_sample_weights_are_refused(make_model, images):
    model = make_model(kp.VLAE)
    with pytest.raises(ValueError, match="its own loss.*leave out `loss`"):
        model.compile(loss="mse")
    model.compile()
    for enter in model.fit, model.evaluate:
        with pytest.raises(ValueError, match="leave out `sample_weight`"):
            enter(images, sample_weight=np.ones(40), verbose=0)


def test_the_default_optimizer_is_the_papers(make_model):
    model = make_model()
    model.compile()
    assert type(model.optimizer) is kp.optimizers.FusedAdam
    assert (float(model.optimizer.learning_rate), model.optimizer.epsilon) == (np.float32(5e-4), 1e-8)


def test_gaussian_likelihood(make_model, images):
    model = make_model(kp.VLAE, likelihood="gaussian", beta=0.0)
    model.compile()
    outputs = {name: ops.convert_to_numpy(value) for name, value in model(images).items()}
    squares = (images - 1 / (1 + np.exp(-outputs["logits"]))) ** 2
    expected = (0.5 * squares + 0.5 * np.log(2 * np.pi)).sum((1, 2, 3)).mean()
    assert float(model.compute_loss(x=images, y_pred=outputs)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"\['bernoulli', 'gaussian'\]. Received: 'poisson'"):
        make_model(likelihood="poisson")


def test_predict_gives_posteriors_and_logits_in_batches(model, images):
    outputs = model.predict(images, batch_size=16, verbose=0)
    mean, log_var = model.encode(images)
    np.testing.assert_allclose(outputs["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs["log_var"], log_var, rtol=1e-5, atol=1e-6)
    assert outputs["logits"].shape == images.shape


def test_the_abstract_model_cannot_be_built():
    with pytest.raises(TypeError, match="abstract"):
        kp.LadderVAE((8, 8, 1), 2, 2)


@pytest.mark.parametrize(
    "build",
    [
        lambda: kp.VLAE((8, 8, 1), 2, 3, beta=2.0, channels=4, dense=8),
        lambda: kp.BetaVAE((8, 8, 1), 5, beta=3.0, stem=(4,), channels=4, dense=8),
        lambda: kp.VLAE((8, 8, 1), 1, 3, likelihood="gaussian", channels=4, dense=None, dtype="mixed_bfloat16"),
    ],
)
def test_baselines_come_back_from_keras_files(build, images, tmp_path):
    model = build()
    model.compile()
    model.fit(images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert (loaded.spec, loaded.beta, loaded.likelihood) == (model.spec, model.beta, model.likelihood)
    assert loaded.dtype_policy.name == model.dtype_policy.name
    np.testing.assert_array_equal(model.reconstruct(images), loaded.reconstruct(images))


def test_beta_vae_is_one_rung():
    model = kp.BetaVAE((28, 28, 1), latent_dim=9, beta=4.0)
    assert (model.num_rungs, model.spec.size(model.spec.level(1))) == (1, (4, 4))
    np.testing.assert_array_equal(model.kl_weights(), [4.0])
    with pytest.raises(ValueError, match="use VLAE for more. Received: num_rungs=2"):
        kp.BetaVAE((28, 28, 1), 9, num_rungs=2)


def test_encode_on_batch_is_encode_at_any_batch_size_and_stage(make_model, images):
    model = make_model()
    for stage in range(3):
        for batch in images[:7], images[:7], images[:3]:
            found = model.encode_on_batch(batch)
            for part, expected in zip(found, model.encode(batch), strict=True):
                assert isinstance(part, np.ndarray)
                np.testing.assert_allclose(part, ops.convert_to_numpy(expected), atol=1e-5)
        if stage < 2:
            model.grow(fade_in_steps=2)  # alpha is 0, then 1: the gates reach the compiled function
    with pytest.raises(ValueError, match="finite values"):
        model.encode_on_batch(images + 1)


def test_decode_on_batch_is_decode_at_any_batch_size_and_stage(make_model):
    model, rng = make_model(latent_dim=(1, 2, 3)), np.random.default_rng(0)
    for stage in range(3):
        for size in 7, 3:
            codes = rng.normal(size=(size, 6))
            found = model.decode_on_batch(codes)
            assert isinstance(found, np.ndarray)
            np.testing.assert_allclose(found, ops.convert_to_numpy(model.decode(codes)), atol=1e-6)
        if stage < 2:
            model.grow(fade_in_steps=0)
    with pytest.raises(ValueError, match=r"\(batch, 6\)"):
        model.decode_on_batch(codes[:, 1:])


def test_the_networks_are_traced_once_for_batches_of_any_size(make_model, images, monkeypatch):
    model, traced = make_model(), []
    for network in model.encoder, model.decoder:
        step = network.predict_step
        monkeypatch.setattr(network, "predict_step", lambda data, step=step: traced.append(1) or step(data))
    for size in 7, 3, 1:
        mean, _ = model.encode_on_batch(images[:size])
        model.decode_on_batch(mean)
    assert len(traced) == 2


@pytest.mark.parametrize("cls", [kp.ProgressiveVAE, kp.VLAE])
def test_a_total_correlation_term_goes_with_any_ladder(make_model, images, cls):
    model = make_model(cls, tc_weight=3.0, dataset_size=1000)
    model.compile()
    # two latents of the deepest rung that say the same
    for name in ("mean_3", "log_var_3"):
        head = model.encoder.get_layer(name)
        head.kernel.assign(np.repeat(ops.convert_to_numpy(head.kernel)[:, :1] * (100 if name == "mean_3" else 0), 2, 1))
        head.bias.assign([-3.0, -3.0] if name == "log_var_3" else [0.0, 0.0])
    logs = model.test_on_batch(images, return_dict=True)
    assert logs["total_correlation"] > 0.5
    weighed = sum(
        float(weight) * logs[f"kl_rung_{rung}"] for weight, rung in zip(model.kl_weights(), (3, 2, 1), strict=True)
    )
    expected = logs["reconstruction"] + weighed + 3.0 * logs["total_correlation"]
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    again = cls.from_config(model.get_config())
    assert (again.tc_weight, again.dataset_size) == (3.0, 1000)


def test_the_total_correlation_is_that_of_unlocked_rungs(make_model, images):
    model = make_model(latent_dim=2, tc_weight=1.0, dataset_size=1000)
    y_pred = {name: np.random.default_rng(0).standard_normal((40, 6)).astype("float32") for name in ("codes", "mean")}
    y_pred["log_var"] = np.zeros((40, 6), "float32")
    estimate = float(model.further_terms(images, y_pred)["total_correlation"])
    alone = kp.losses.total_correlation(*(value[:, :2] for value in y_pred.values()), 1000)
    assert estimate == pytest.approx(float(ops.mean(alone)), abs=1e-5)


def test_training_lowers_the_total_correlation_where_it_weighs(make_model, images):
    ends = {}
    for weight in 0.0, 50.0:
        keras.utils.set_random_seed(0)
        model = make_model(kp.VLAE, num_rungs=1, latent_dim=4, beta=0.1, tc_weight=weight, dataset_size=40)
        model.compile(kp.optimizers.adam(3e-3))
        model.fit(images, epochs=40, batch_size=40, verbose=0)
        mean, log_var = map(ops.convert_to_numpy, model.encode(images))
        noise = np.random.default_rng(0).standard_normal(mean.shape).astype("float32")
        codes = mean + np.exp(log_var / 2) * noise
        ends[weight] = float(ops.mean(kp.losses.total_correlation(codes, mean, log_var, 40)))
    assert ends[50.0] < 0.5 * ends[0.0]


def test_a_total_correlation_term_needs_the_number_of_images(make_model):
    with pytest.raises(TypeError, match="dataset_size=None"):
        make_model(kp.VLAE, tc_weight=1.0)
    with pytest.raises(ValueError, match="tc_weight"):
        make_model(kp.VLAE, tc_weight=-1.0, dataset_size=10)
