import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp

SETTINGS = {
    "image_shape": (8, 8, 1),
    "num_rungs": 3,
    "latent_dim": (3, 2, 1),
    "stem": (4,),
    "channels": 4,
    "dense": None,
}


@pytest.fixture
def model():
    """Groups of 1, 2 and 3 latents, the first teacher's first; at stage 0."""
    model = kp.TeacherStudentVAE(**SETTINGS)
    model.compile(run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def student():
    """The same model at stage 1, away from its teacher; no test leaves it changed."""
    keras.utils.set_random_seed(0)
    model = kp.TeacherStudentVAE(**SETTINGS)
    model.compile(run_eagerly=True)
    model.grow()
    moved(model)
    return model


def numpy(value):
    return np.array(ops.convert_to_numpy(value))


def moved(model, seed=0):
    """Moves the student away from its teacher, as training would."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(numpy(variable) + 0.1 * rng.standard_normal(variable.shape))


def test_codes_begin_with_the_first_teachers_latents(model, images):
    assert model.rung_slices == [(3, slice(0, 1)), (2, slice(1, 3)), (1, slice(3, 6))]
    mean, log_var = map(numpy, model.encode(images))
    assert mean.shape == log_var.shape == (40, 6)
    assert mean[:, 0].std() > 0
    assert not mean[:, 1:].any()
    assert not log_var[:, 1:].any()


def test_locked_latents_are_not_decoded_and_cost_nothing(model, images):
    codes = np.random.default_rng(0).standard_normal((4, 6)).astype("float32")
    changed = codes.copy()
    changed[:, 1:] += 1
    np.testing.assert_array_equal(numpy(model.decode(codes)), numpy(model.decode(changed)))
    logs = model.test_on_batch(images, return_dict=True)
    assert logs["kl_rung_3"] > 0
    assert logs["kl_rung_2"] == logs["kl_rung_1"] == 0
    assert logs["teacher_codes"] == logs["jacobian"] == logs["cross_covariance"] == 0
    assert logs["loss"] == pytest.approx(logs["reconstruction"] + logs["kl"], rel=1e-6)


def test_a_student_starts_from_its_teacher(model, images):
    before = [numpy(weight) for weight in model.encoder.weights]
    mean, _ = model.encode(images)
    model.grow(fade_in_steps=100)
    assert (model.stage, model.alpha) == (1, 1.0)  # nothing is faded in
    for weight, kept, taught in zip(before, model.encoder.weights, model.teacher_encoder.weights, strict=True):
        np.testing.assert_array_equal(weight, numpy(kept))
        np.testing.assert_array_equal(weight, numpy(taught))
    student_mean, _ = model.encode(images)
    np.testing.assert_array_equal(numpy(student_mean)[:, 0], numpy(mean)[:, 0])
    assert numpy(student_mean)[:, 1:3].std() > 0
    assert not numpy(student_mean)[:, 3:].any()


@pytest.mark.parametrize("stage", [1, 2])
def test_the_three_terms_are_those_of_the_source(model, images, monkeypatch, stage):
    for _ in range(stage):
        moved(model, seed=stage)
        model.grow()
    moved(model, seed=5)
    noise = np.random.default_rng(1).standard_normal(40).astype("float32")
    images = ops.convert_to_tensor(images)
    outputs = model(images)
    monkeypatch.setattr(model, "sampling", lambda mean, log_var: mean + noise)
    terms = {name: float(term) for name, term in model.further_terms(images, outputs).items()}

    kept = [0] if stage == 1 else [0, 1, 2]
    new = [1, 2] if stage == 1 else [3, 4, 5]
    gates = ops.convert_to_tensor([1.0, 0.0, 0.0] if stage == 1 else [1.0, 1.0, 0.0])
    order = np.argsort(noise)
    mean = numpy(outputs["mean"]).astype("float64")
    one, kept_latents = ops.ones(1), numpy(model.per_latent(gates))
    taught = numpy(model.teacher_encoder([images, one])[0]) * kept_latents

    def pixels(decoder, codes, latents):
        codes = ops.convert_to_tensor(codes * latents, "float32")
        return 1 / (1 + np.exp(-numpy(decoder([codes, one])).astype("float64")))

    swapped, taught_swapped = mean.copy(), taught.copy()
    swapped[:, kept] = mean[order][:, kept]
    taught_swapped[:, kept] = taught[order][:, kept]
    teacher_difference = pixels(model.teacher_decoder, taught, kept_latents) - pixels(
        model.teacher_decoder, taught_swapped, kept_latents
    )
    unlocked = numpy(model.per_latent(model.unlocked()))
    difference = pixels(model.decoder, mean, unlocked) - pixels(model.decoder, swapped, unlocked)
    covariance = np.cov(mean[:, new + kept].T, bias=True)[: len(new), len(new) :]
    assert terms["teacher_codes"] == pytest.approx(((mean[:, kept] - taught[:, kept]) ** 2).mean(), rel=1e-4)
    assert terms["jacobian"] == pytest.approx(((teacher_difference - difference) ** 2).mean(), rel=1e-3)
    assert terms["cross_covariance"] == pytest.approx(np.linalg.norm(covariance), rel=1e-3)
    assert min(terms.values()) > 1e-8


def test_the_weights_of_the_terms_count_the_pixels(student):
    model = student
    pixels = 8 * 8 * 1
    assert model.further_weights() == pytest.approx(
        {"teacher_codes": 0.25 * pixels, "jacobian": 0.1 * pixels, "cross_covariance": 1e-3 * pixels}
    )


def test_the_loss_has_all_terms(student, images):
    student.reset_metrics()
    logs = student.test_on_batch(images, return_dict=True)
    weights = student.further_weights()
    further = sum(weights[name] * logs[name] for name in weights)
    assert further > 0.01
    assert logs["loss"] == pytest.approx(logs["reconstruction"] + logs["kl"] + further, rel=1e-5)


def test_a_student_equal_to_its_teacher_has_no_penalty(model, images):
    """With the new latents cut off from the decoder, the other latents decode as the teacher decodes them."""
    model.grow()
    kernel = model.decoder.get_layer("m_1").kernel
    cut = numpy(kernel)
    cut[1:] = 0
    kernel.assign(cut)
    model.teacher_decoder.get_layer("m_1").kernel.assign(cut)
    logs = model.test_on_batch(images, return_dict=True)
    assert logs["teacher_codes"] == pytest.approx(0, abs=1e-10)
    assert logs["jacobian"] == pytest.approx(0, abs=1e-10)


def test_supervision_pulls_the_student_to_a_teacher_that_does_not_learn(model, images):
    """Every term falls along its own gradient, which reaches the student alone."""
    model.grow()
    moved(model)
    teacher = [numpy(weight) for weight in model.teacher_encoder.weights + model.teacher_decoder.weights]
    x, variables = ops.convert_to_tensor(images), model.trainable_variables
    state = numpy(model.sampling.seed_generator.state)

    def terms():
        model.sampling.seed_generator.state.assign(state)
        return model.further_terms(x, model(x))

    with tf.GradientTape(persistent=True) as tape:
        before = terms()
    at = [numpy(variable) for variable in variables]
    for name, value in before.items():
        gradients = tape.gradient(value, [variable.value for variable in variables])
        gradients = [0.0 if gradient is None else numpy(gradient) for gradient in gradients]
        square = sum(np.square(gradient).sum() for gradient in gradients)
        step = 0.02 * float(value) / square
        for variable, old, gradient in zip(variables, at, gradients, strict=True):
            variable.assign(old - step * gradient)
        assert float(value) - float(terms()[name]) == pytest.approx(0.02 * float(value), rel=0.3), name
        for variable, old in zip(variables, at, strict=True):
            variable.assign(old)
    model.train_on_batch(images)
    assert any(np.any(numpy(variable) != old) for variable, old in zip(variables, at, strict=True))
    for weight, now in zip(teacher, model.teacher_encoder.weights + model.teacher_decoder.weights, strict=True):
        np.testing.assert_array_equal(weight, numpy(now))


def test_one_fit_trains_all_stages_and_its_file_trains_on(images, tmp_path, capsys):
    model = kp.TeacherStudentVAE(**SETTINGS)
    model.compile()
    history = model.fit(images, epochs=6, batch_size=20, verbose=0, callbacks=[kp.GrowthCallback(verbose=1)])
    assert history.history["stage"] == [0, 0, 1, 1, 2, 2]
    assert history.history["alpha"] == [1.0] * 6
    assert "Stage 1: rung 2 unlocked, without a fade-in" in capsys.readouterr().out
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert (loaded.stage, loaded.iteration) == (2, 12)
    for weight, again in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(numpy(weight), numpy(again))
    # the teacher, the optimizer and the noise as well: the next step is the same
    for one in model, loaded:
        one.run_eagerly = True
        one.make_train_function(force=True)
        one.reset_metrics()
    first, second = (one.train_on_batch(images, return_dict=True) for one in (model, loaded))
    assert first["jacobian"] > 0
    assert second == first


def test_it_computes_the_same_in_a_graph(student, images):
    """As exports and the server need."""
    encode = tf.function(lambda images: student.decode(student.encode(images)[0]))
    np.testing.assert_allclose(encode(images[:5]), numpy(student.reconstruct(images[:5])), atol=1e-5)


def test_metrics_and_samples_accept_it(student, images):
    flow = kp.metrics.information_flow(*map(numpy, student.encode(images)), student.rung_slices, draws=500)
    assert flow.rungs == (3, 2, 1)
    assert flow.mi[2] == pytest.approx(0, abs=1e-3)
    assert tuple(student.sample(3, rung=2, around=images[:1], seed=0).shape) == (3, 8, 8, 1)
    assert tuple(student.reconstruct(images).shape) == images.shape


def test_presets_have_the_trunk_and_the_latents_of_a_beta_vae():
    preset = "dsprites"
    model, flat = (cls.from_preset(preset) for cls in (kp.TeacherStudentVAE, kp.BetaVAE))
    settings = kp.presets.preset(preset)["model"]
    assert model.num_rungs == settings["num_rungs"]
    assert model.spec == flat.spec
    assert model.rung_widths == (settings["latent_dim"],) * settings["num_rungs"]


def test_the_optimizer_is_lezamas_unless_another_is_given(model):
    model.compile()
    assert float(model.optimizer.learning_rate) == pytest.approx(3e-4)
    assert model.optimizer.weight_decay == pytest.approx(1e-6)
    model.compile("sgd")
    assert type(model.optimizer).__name__ == "SGD"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_rungs": 0}, ValueError, "num_rungs=0"),
        ({"num_rungs": 2.0}, TypeError, "num_rungs=2.0"),
        ({"latent_dim": (1, 2)}, ValueError, r"3 of them.*latent_dim=\(1, 2\)"),
        ({"latent_dim": 0}, ValueError, "latent_dim=0"),
        ({"latent_dim": True}, ValueError, "latent_dim=True"),
        ({"lambda_z": -1}, ValueError, "lambda_z"),
        ({"lambda_jac": float("nan")}, ValueError, "lambda_jac"),
    ],
)
def test_bad_settings_raise(make_model, settings, error, message):
    with pytest.raises(error, match=message):
        make_model(kp.TeacherStudentVAE, stem=(4,), **settings)
