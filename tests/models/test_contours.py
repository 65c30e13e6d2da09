"""Contour supervision: the contours, the term, its read-outs in files, and the same numbers with the acceleration."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_provlae as kp
from keras_provlae.models.contours import CONTRAST, contour_nll, contour_read_outs, contours


def test_contours_are_changes_of_any_color_and_sign():
    images = np.full((1, 4, 5, 3), 0.5, "float32")
    images[0, 1:3, 2] = [0.9, 0.5, 0.5]
    found = ops.convert_to_numpy(contours(images))
    change = 0.4**2 / 3
    one, two = (n * change / (n * change + CONTRAST**2) for n in (1, 2))
    expected = np.zeros((4, 5))
    expected[0, 2] = one  # to the pixel below
    expected[1, 1] = expected[2, 1] = one  # to the pixel on the right
    expected[1, 2] = one
    expected[2, 2] = two
    np.testing.assert_allclose(found[0, :, :, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(contours(1 - images), found, rtol=1e-4)
    np.testing.assert_allclose(contours(images[..., [2, 0, 1]]), found, rtol=1e-4)


@pytest.fixture
def model(make_model, acceleration):
    model = make_model(num_rungs=3, contour_weight=2.0, stem=())
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    rng = np.random.default_rng(3)
    for variable in model.trainable_variables:  # biases and affines that do something
        variable.assign_add(0.2 * rng.standard_normal(variable.shape))
    return model


def expected_nll(model, images, codes, rungs):
    """Directly from the layers: every place of m_l is a block of logits."""
    layers, logits = model._decoder_layers, 0.0
    gates = model.decoder_gates()
    parts = zip(layers.rungs, kp.ladder.codes_of_rungs(layers, codes), strict=True)
    for (rung, z), layer in list(zip(list(parts)[1:], model.contour_read_outs, strict=True))[:rungs]:
        m = ops.convert_to_numpy(layer(rung.gate(kp.ladder.in_turn(rung.map, z), gates)))
        block = 8 // m.shape[1]
        shown = np.zeros((len(m), 8, 8))
        for row, column in np.ndindex(8, 8):
            entry = block * (row % block) + column % block
            shown[:, row, column] = m[:, row // block, column // block, entry]
        logits = logits + shown
    targets = ops.convert_to_numpy(contours(images))[..., 0]
    return (np.logaddexp(0, logits) - targets * logits).sum(axis=(1, 2)).mean()


@pytest.mark.parametrize(("stage", "alpha"), [(0, 1.0), (1, 0.5), (1, 1.0), (2, 0.5)])
def test_the_unlocked_rungs_but_the_deepest_show_the_contours_together(model, images, stage, alpha):
    def at_stage():
        model.sampling.seed_generator.state.assign([1, 0])
        model.iteration_variable.assign(round(1000 * alpha))

    if stage:
        model.grow(fade_in_steps=1000, to_stage=stage)
    at_stage()
    logs = model.train_on_batch(images, return_dict=True)
    at_stage()
    expected = expected_nll(model, images, model(images)["codes"], stage) if stage else 0.0
    assert logs["contours"] == pytest.approx(expected, rel=1e-4)
    kl = sum(float(w) * logs[f"kl_rung_{rung}"] for w, rung in zip(model.kl_weights(), (3, 2, 1), strict=True))
    assert logs["loss"] == pytest.approx(logs["reconstruction"] + kl + 2.0 * logs["contours"], rel=1e-4)


def test_locked_rungs_do_not_count_where_all_are_computed(model, images):
    model.grow(fade_in_steps=0)
    outputs, maps = model(images), []
    kp.ladder.decode(model._decoder_layers, outputs["codes"], model.decoder_gates(), maps=maps)
    all_rungs, unlocked = (model.further_terms(images, {**outputs, "maps": some}) for some in (maps, maps[:2]))
    assert float(all_rungs["contours"]) == pytest.approx(float(unlocked["contours"]))


def test_the_deepest_rung_gets_no_gradient_from_the_contours(make_model, images):
    model = make_model(num_rungs=2, contour_weight=1.0, beta=0.0)
    model.grow(fade_in_steps=0)
    codes = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    maps = []
    kp.ladder.decode(model._decoder_layers, codes, model.decoder_gates(), maps=maps)
    own = [m for m, _ in maps[1:]]
    before = ops.convert_to_numpy(contour_nll(images, own, model.contour_read_outs, np.ones(1)))
    codes[:, :2] += 1.0  # z_2, the deepest
    maps = []
    kp.ladder.decode(model._decoder_layers, codes, model.decoder_gates(), maps=maps)
    own = [m for m, _ in maps[1:]]
    np.testing.assert_array_equal(contour_nll(images, own, model.contour_read_outs, np.ones(1)), before)


@pytest.mark.parametrize("shape", [(7, 10, 1), (12, 9, 3)])
def test_blocks_that_do_not_fill_the_image_are_cropped(shape):
    model = kp.ProgressiveVAE(shape, num_rungs=2, latent_dim=1, channels=3, dense=None, contour_weight=1.0)
    model.grow(fade_in_steps=0)
    maps, images = [], np.random.default_rng(0).random((2, *shape)).astype("float32")
    kp.ladder.decode(model._decoder_layers, np.ones((2, 2), "float32"), model.decoder_gates(), maps=maps)
    read_outs = contour_read_outs(shape, model._decoder_layers)
    nats = contour_nll(images, [maps[1][0]], read_outs, np.ones(1, "float32"))
    assert ops.shape(nats) == (2,)
    assert np.isfinite(ops.convert_to_numpy(nats)).all()


def test_the_term_is_in_the_logs_of_training_alone_and_can_be_annealed(make_model, images):
    model = make_model(num_rungs=2, contour_weight=1.0, dense=None)
    model.compile()
    annealing = kp.callbacks.Annealing(contour_weight={0: 0.0, 1: 0.5})
    callbacks = [kp.GrowthCallback(fade_in_steps=1), annealing]
    data = {"validation_data": images[:20], "verbose": 0}
    history = model.fit(images, epochs=2, batch_size=20, callbacks=callbacks, **data).history
    assert history["contour_weight"] == [0.0, 0.5]
    assert history["contours"][0] == 0.0
    assert history["contours"][1] > 0.0
    assert "val_contours" not in history
    assert set(model.predict(images, verbose=0)) == {"mean", "log_var", "codes", "logits"}


def test_a_model_of_one_rung_has_nothing_to_supervise(make_model, images):
    model = make_model(num_rungs=1, contour_weight=1.0)
    model.compile(run_eagerly=True)
    assert model.train_on_batch(images, return_dict=True)["contours"] == 0.0
