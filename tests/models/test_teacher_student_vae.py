import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp


@pytest.fixture
def model(make_model):
    """Groups of 1, 2 and 3 latents, the first teacher's first; at stage 0."""
    model = make_model(kp.TeacherStudentVAE, latent_dim=(3, 2, 1), stem=(4,))
    model.compile(run_eagerly=True)  # a step or two take less time than a graph
    return model


@pytest.fixture
def student(model):
    model.grow()
    return model


def numpy(value):
    return np.array(ops.convert_to_numpy(value))


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


def moved(model, seed=0):
    """The student away from its teacher, as training would have it."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(numpy(variable) + 0.1 * rng.standard_normal(variable.shape))


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


def test_the_terms_weigh_what_their_balance_with_summed_pixels_asks(make_model):
    model = make_model(kp.TeacherStudentVAE, stem=(4,))
    pixels = 8 * 8 * 1
    assert model.further_weights() == pytest.approx(
        {"teacher_codes": 0.25 * pixels, "jacobian": 0.1 * pixels, "cross_covariance": 1e-3 * pixels}
    )


def test_the_loss_has_all_terms(student, images):
    moved(student)
    logs = student.test_on_batch(images, return_dict=True)
    weights = student.further_weights()
    further = sum(weights[name] * logs[name] for name in weights)
    assert further > 0.01
    assert logs["loss"] == pytest.approx(logs["reconstruction"] + logs["kl"] + further, rel=1e-5)


def test_a_student_like_its_teacher_is_not_corrected(student, images):
    """The new latents cut off from the decoder: what it makes of the others is what the teacher does."""
    kernel = student.decoder.get_layer("m_1_dense_1").kernel
    cut = numpy(kernel)
    cut[1:] = 0
    kernel.assign(cut)
    student.teacher_decoder.get_layer("m_1_dense_1").kernel.assign(cut)
    logs = student.test_on_batch(images, return_dict=True)
    assert logs["teacher_codes"] == pytest.approx(0, abs=1e-10)
    assert logs["jacobian"] == pytest.approx(0, abs=1e-10)


def test_the_teacher_does_not_learn(student, images):
    moved(student)
    teacher = [numpy(weight) for weight in student.teacher_encoder.weights + student.teacher_decoder.weights]
    before = numpy(student.encoder.get_layer("mean_1").kernel)
    student.train_on_batch(images)
    assert np.abs(numpy(student.encoder.get_layer("mean_1").kernel) - before).max() > 0
    for weight, now in zip(teacher, student.teacher_encoder.weights + student.teacher_decoder.weights, strict=True):
        np.testing.assert_array_equal(weight, numpy(now))


def test_supervision_pulls_the_student_back_to_its_teacher(make_model, images):
    """With the supervision alone, codes and Jacobian come to be the teacher's again."""
    model = make_model(kp.TeacherStudentVAE, num_rungs=2, stem=(4,), beta=0.0, lambda_z=1e4, lambda_jac=1e4)
    model.compile(kp.optimizers.adam(3e-3))
    model.grow()
    moved(model)
    first = model.test_on_batch(images, return_dict=True)
    for _ in range(60):
        model.train_on_batch(images)
    model.reset_metrics()
    last = model.test_on_batch(images, return_dict=True)
    assert last["teacher_codes"] < 0.1 * first["teacher_codes"]
    assert last["jacobian"] < 0.3 * first["jacobian"]


def test_one_fit_for_all_stages_then_saved_and_loaded(model, images, tmp_path, capsys):
    model.compile()
    history = model.fit(images, epochs=6, batch_size=20, verbose=0, callbacks=[kp.GrowthCallback(verbose=1)])
    assert history.history["stage"] == [0, 0, 1, 1, 2, 2]
    assert history.history["alpha"] == [1.0] * 6
    assert "Stage 1: rung 2 unlocked, without a fade-in" in capsys.readouterr().out
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    assert (loaded.stage, loaded.iteration) == (2, 12)
    for weight, again in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(numpy(weight), numpy(again))
    # the teacher, the optimiser and the noise too: the next step is the same
    first, second = (one.train_on_batch(images, return_dict=True) for one in (model, loaded))
    assert first["loss"] != 0
    assert second["jacobian"] == first["jacobian"]


def test_it_is_exported_like_the_others(student, images, tmp_path):
    path = kp.export.export_savedmodel(student, tmp_path / "served", example_images=images[:5])
    loaded = tf.saved_model.load(str(path))
    served = loaded.signatures["encode"](images=tf.constant(images[:5]))
    np.testing.assert_allclose(served["mean"], numpy(student.encode(images[:5])[0]), atol=1e-5)


def test_metrics_and_samples_take_it(student, images):
    flow = kp.metrics.information_flow(*map(numpy, student.encode(images)), student.rung_slices, draws=500)
    assert flow.rungs == (3, 2, 1)
    assert flow.mi[2] == pytest.approx(0, abs=1e-3)
    assert tuple(student.sample(3, rung=2, around=images[:1], seed=0).shape) == (3, 8, 8, 1)
    assert tuple(student.reconstruct(images).shape) == images.shape


@pytest.mark.parametrize("preset", ["shapes3d", "dsprites"])
def test_presets_give_the_trunk_and_the_latents_of_a_beta_vae(preset):
    model, flat = (cls.from_preset(preset) for cls in (kp.TeacherStudentVAE, kp.BetaVAE))
    settings = kp.presets.preset(preset)["model"]
    assert model.num_rungs == settings["num_rungs"]
    assert model.spec == flat.spec
    assert model.rung_widths == (settings["latent_dim"],) * settings["num_rungs"]


def test_the_optimiser_is_lezamas_unless_another_is_given(make_model):
    model = make_model(kp.TeacherStudentVAE, stem=(4,))
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
def test_bad_settings_are_refused(make_model, settings, error, message):
    with pytest.raises(error, match=message):
        make_model(kp.TeacherStudentVAE, stem=(4,), **settings)
