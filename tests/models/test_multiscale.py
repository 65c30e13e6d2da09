"""Multi-scale supervision: the term, its fade, the read-outs in files, and the same numbers with the acceleration."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_provlae as kp
from keras_provlae.models import multiscale


def test_images_are_averaged_down_to_any_size():
    images = np.random.default_rng(0).random((2, 6, 6, 3)).astype("float32")
    halves = images.reshape(2, 3, 2, 3, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(multiscale.averaged(images, (3, 3)), halves, rtol=1e-5)
    np.testing.assert_allclose(multiscale.averaged(images, (6, 6)), images, rtol=1e-6)
    four = ops.convert_to_numpy(multiscale.averaged(images, (4, 1)))  # 1.5 rows each
    first, second = images[:, 0] + images[:, 1] / 2, images[:, 1] / 2 + images[:, 2]
    np.testing.assert_allclose(four[:, 0, 0], first.mean(axis=1) / 1.5, rtol=1e-5)
    np.testing.assert_allclose(four[:, 1, 0], second.mean(axis=1) / 1.5, rtol=1e-5)
    np.testing.assert_allclose(four.mean(axis=(1, 2)), images.mean(axis=(1, 2)), rtol=1e-5)


@pytest.fixture
def model(make_model, acceleration):
    model = make_model(num_rungs=3, multiscale_weight=2.0, stem=())
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    rng = np.random.default_rng(3)
    for variable in model.trainable_variables:  # affines that do something
        variable.assign_add(0.2 * rng.standard_normal(variable.shape))
    return model


def grow(model, stage, alpha):
    model.grow(fade_in_steps=1000, to_stage=stage)
    model.iteration_variable.assign(round(1000 * alpha))


@pytest.mark.parametrize(("stage", "alpha", "weight"), [(0, 1, 2.0), (1, 0.5, 1.5), (2, 1.0, 0.0)])
def test_the_term_is_the_mean_over_unlocked_rungs_and_fades(model, images, stage, alpha, weight):
    if stage:
        grow(model, stage, alpha)
    assert float(model.further_weights()["multiscale"]) == pytest.approx(weight)
    model.sampling.seed_generator.state.assign([1, 0])
    logs = model.train_on_batch(images, return_dict=True)
    model.sampling.seed_generator.state.assign([1, 0])
    if stage:
        model.iteration_variable.assign(round(1000 * alpha))
    codes, gates, maps = model(images)["codes"], model.decoder_gates(), []
    kp.ladder.decode(model._decoder_layers, codes, gates, maps=maps)
    expected = []
    for (_, g), layer in list(zip(maps, model.read_outs, strict=True))[: stage + 1]:
        size = g.shape[1]
        small = images.reshape(40, size, 8 // size, size, 8 // size, 1).mean(axis=(2, 4))
        logits = ops.convert_to_numpy(layer(g))
        nll = np.logaddexp(0, logits) - small * logits
        expected.append((8 / size) ** 2 * nll.sum(axis=(1, 2, 3)).mean())
    assert logs["multiscale"] == pytest.approx(np.mean(expected), rel=1e-4)
    kl = sum(float(w) * logs[f"kl_rung_{rung}"] for w, rung in zip(model.kl_weights(), (3, 2, 1), strict=True))
    assert logs["loss"] == pytest.approx(logs["reconstruction"] + kl + weight * logs["multiscale"], rel=1e-4)


def test_locked_rungs_do_not_count_where_all_are_computed(model, images):
    outputs, maps = model(images), []
    kp.ladder.decode(model._decoder_layers, outputs["codes"], model.decoder_gates(), maps=maps)
    all_rungs, unlocked = (model.further_terms(images, {**outputs, "maps": some}) for some in (maps, maps[:1]))
    assert float(all_rungs["multiscale"]) == pytest.approx(float(unlocked["multiscale"]))


@pytest.mark.parametrize(
    ("weight", "read_outs", "trained"),
    [("multiscale_weight", "read_outs", [True, True, False]), ("contour_weight", "contour_read_outs", [True, False])],
)
def test_read_outs_are_trained_saved_and_no_part_of_decoding(make_model, images, tmp_path, weight, read_outs, trained):
    model = make_model(stem=(), **{weight: 1.0})
    model.grow(fade_in_steps=0)
    model.compile(keras.optimizers.SGD(1e-2), run_eagerly=True)
    before = [np.array(layer.kernel) for layer in getattr(model, read_outs)]
    model.train_on_batch(images)
    after = getattr(model, read_outs)
    moved = [not np.array_equal(old, layer.kernel) for old, layer in zip(before, after, strict=True)]
    assert moved == trained  # the third rung is locked
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert getattr(loaded, weight) == 1.0
    for ours, theirs in zip(getattr(loaded, read_outs), after, strict=True):
        np.testing.assert_array_equal(ours.kernel, theirs.kernel)
    codes = np.ones((2, 6), "float32")
    decoded = ops.convert_to_numpy(loaded.decode(codes))
    for layer in getattr(loaded, read_outs):
        layer.kernel.assign(np.full(layer.kernel.shape, 9.0))
    np.testing.assert_array_equal(loaded.decode(codes), decoded)


def test_logs_have_the_term_in_training_alone_and_models_without_it_are_as_before(make_model, images):
    model = make_model(num_rungs=2, multiscale_weight=1.0)
    model.compile(run_eagerly=True)
    assert "multiscale" in model.train_on_batch(images, return_dict=True)
    assert "multiscale" not in model.test_on_batch(images, return_dict=True)
    assert set(model.predict(images, verbose=0)) == {"mean", "log_var", "codes", "logits"}
    assert make_model(num_rungs=2).multiscale_weight is None
    assert len(make_model(num_rungs=2, multiscale_weight=1.0).weights) == len(make_model(num_rungs=2).weights) + 5


def test_a_compiled_training_grows_and_anneals_the_weight(make_model, images):
    model = make_model(num_rungs=2, multiscale_weight=1.0, dense=None)
    model.compile()
    annealing = kp.callbacks.Annealing(multiscale_weight={0: 1.0, 1: 0.5})
    callbacks = [kp.GrowthCallback(fade_in_steps=1), annealing]
    history = model.fit(images, epochs=2, batch_size=20, verbose=0, callbacks=callbacks).history
    assert history["multiscale_weight"] == [1.0, 0.5]
    assert np.isfinite(history["multiscale"]).all()
