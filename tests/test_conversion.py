"""The authors' program, step by step: posteriors, logits, losses and Adam, at every stage."""

import json
import re
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp

CASES = ["dsprites", "shapes3d", "celeba"]


def authors_array(name, shape):
    noise = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF).standard_normal(shape)
    kind = name.rsplit("/", 1)[1]
    if kind == "kernel":
        receptive = np.prod(shape[:-2])
        noise = noise * np.sqrt(2 / (receptive * (shape[-2] + shape[-1])))
    elif kind == "gamma":
        noise = 1 + 0.1 * noise
    elif kind in ("bias", "beta"):
        noise = 0.05 * noise
    else:
        noise = np.full(shape, float(kind == "moving_variance"))
    return noise.astype("float32")


def authors_names(shared, case):
    """{name: shape} of one of the two networks, which the file lists one after the other."""
    text = (shared / "reference/parity/variables.txt").read_text()
    blocks = text.strip().split("qh1/conv2d/kernel")[1:]
    block = "qh1/conv2d/kernel" + blocks[case == "celeba"]
    rows = re.findall(r"^(\S+) \(([\d, ]+)\) [Tn]", block, re.MULTILINE)
    return {name: tuple(int(n) for n in shape.split(",") if n.strip()) for name, shape in rows}


class Parity:
    """One reference case: the authors' weights and inputs in our model."""

    def __init__(self, shared, case):
        folder = shared / "reference/parity"
        self.settings = json.loads((folder / f"parity_{case}_zero.json").read_text())
        with np.load(folder / f"parity_{case}_zero.npz") as file:
            self.arrays = dict(file)
        self.num_rungs = self.settings["rungs"]
        self.model = kp.ProgressiveVAE.from_preset(
            "celeb_a" if case == "celeba" else case,
            latent_dim=self.settings["z_dim"],
            beta=self.settings["beta"],
            gamma=self.settings["gamma"],
        )
        variables = kp.conversion.authors_variables(self.model)
        self.weights = {name: authors_array(name, tuple(v.shape)) for name, v in variables.items()}
        shape = (self.settings["batch"], *self.model.spec.image_shape)
        self.images = np.random.RandomState(7).uniform(size=shape).astype("float32")

    def set_stage(self, stage):
        """The weights at the start of a stage, with alpha where the authors' was held."""
        model = self.model
        kp.conversion.load_authors_weights(model, self.weights)
        model.stage_variable.assign(stage)
        model.unlocked_at_variable.assign(0)
        model.fade_in_steps_variable.assign(1_000_000_000 if stage else 0)  # alpha moves by 1e-9 a step
        model.iteration_variable.assign(round(self.settings["alpha"] * 1_000_000_000))
        return model


@pytest.fixture(scope="module", params=CASES)
def parity(request, shared):
    return Parity(shared, request.param)


@pytest.fixture
def no_noise(monkeypatch):
    monkeypatch.setattr(kp.layers.Sampling, "call", lambda self, mean, log_var: mean)


def stages(parity):
    return range(parity.num_rungs)


def test_posteriors_agree_at_every_stage(parity):
    for stage in stages(parity):
        mean, log_var = parity.set_stage(stage).encode(parity.images)
        for rung, columns in parity.model.rung_slices:
            for name, values in ("mean", mean), ("logvar", log_var):
                expected = parity.arrays[f"s{stage + 1}_{name}{rung}"]
                np.testing.assert_allclose(values[:, columns], expected, rtol=1e-4, atol=1e-5)


def test_logits_agree_at_every_stage(parity):
    codes = [
        np.random.RandomState(200 + rung).standard_normal((parity.settings["batch"], parity.settings["z_dim"]))
        for rung in range(parity.num_rungs, 0, -1)
    ]
    codes = ops.convert_to_tensor(np.concatenate(codes, axis=1), "float32")
    for stage in stages(parity):
        model = parity.set_stage(stage)
        logits = model.decoder([codes, model.decoder_gates()])
        expected = parity.arrays[f"s{stage + 1}_logits"]
        np.testing.assert_allclose(logits[: len(expected)], expected, rtol=1e-4, atol=1e-4)


def test_losses_follow_the_adam_trajectory_of_every_stage(parity, no_noise):
    adam = kp.optimizers.adam(parity.settings["learning_rate"], epsilon=parity.settings["adam_epsilon"])
    parity.model.compile(adam, run_eagerly=True)  # a few steps take less time than a graph for each stage
    fresh = [np.array(variable) for variable in adam.variables]
    for stage in stages(parity):
        model = parity.set_stage(stage)
        for variable, value in zip(adam.variables, fresh, strict=True):
            variable.assign(value)
        trajectory = parity.settings["runs"][str(stage + 1)]["trajectory"]
        ours = [terms(model.train_on_batch(parity.images, return_dict=True), model) for _ in trajectory[:-1]]
        ours.append(terms(model.test_on_batch(parity.images, return_dict=True), model))
        np.testing.assert_allclose(ours, trajectory, rtol=1e-4, atol=1e-5)


def terms(logs, model):
    model.reset_metrics()
    return [logs["loss"], logs["reconstruction"]] + [logs[f"kl_rung_{r}"] for r in range(1, model.num_rungs + 1)]


def test_gradient_norms_agree_at_every_stage(parity, no_noise):
    for stage in stages(parity):
        model = parity.set_stage(stage)
        names = kp.conversion.authors_variables(model)
        model.compile()
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=parity.images, y_pred=model(parity.images))
        gradients = tape.gradient(loss, [variable.value for variable in names.values()])
        ours = {n: 0.0 if g is None else float(tf.norm(g)) for n, g in zip(names, gradients, strict=True)}
        expected = parity.settings["runs"][str(stage + 1)]["grad_norm"]
        assert set(expected) <= set(ours)
        for name, norm in expected.items():
            assert ours[name] == pytest.approx(norm or 0.0, rel=1e-3, abs=1e-5), (stage, name)


@pytest.mark.parametrize("case", ["dsprites", "celeba"])
def test_names_and_shapes_are_the_authors(shared, case):
    settings = json.loads((shared / f"reference/parity/parity_{case}_zero.json").read_text())
    model = kp.ProgressiveVAE.from_preset("celeb_a" if case == "celeba" else case, latent_dim=settings["z_dim"])
    names = authors_names(shared, case)
    trained = {name: shape for name, shape in names.items() if "/moving_" not in name}
    assert {n: tuple(v.shape) for n, v in kp.conversion.authors_variables(model).items()} == trained
    kp.conversion.load_authors_weights(model, {name: authors_array(name, shape) for name, shape in names.items()})


# === Without reference data ===


@pytest.fixture
def weights(make_model):
    """Weights for the small test model, under the authors' names."""
    variables = kp.conversion.authors_variables(make_model())
    return {name: authors_array(name, tuple(variable.shape)) for name, variable in variables.items()}


def assert_loaded(model, weights):
    for name, variable in kp.conversion.authors_variables(model).items():
        np.testing.assert_allclose(variable, weights[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_names_are_numbered_as_tensorflow_1_did(make_model):
    names = list(kp.conversion.authors_variables(make_model(num_rungs=1)))
    assert names == [
        "qh1/conv2d/kernel", "qh1/conv2d/bias", "qh1/batch_normalization/gamma", "qh1/batch_normalization/beta",
        "qladder1/conv2d/kernel", "qladder1/conv2d/bias",
        "qladder1/batch_normalization/gamma", "qladder1/batch_normalization/beta",
        "qladder1/dense/kernel", "qladder1/dense/bias",
        "qladder1/batch_normalization_1/gamma", "qladder1/batch_normalization_1/beta",
        "qladder1/dense_1/kernel", "qladder1/dense_1/bias", "qladder1/dense_2/kernel", "qladder1/dense_2/bias",
        "gen1/dense/kernel", "gen1/dense/bias", "gen1/batch_normalization/gamma", "gen1/batch_normalization/beta",
        "gen1/dense_1/kernel", "gen1/dense_1/bias",
        "gen1/batch_normalization_1/gamma", "gen1/batch_normalization_1/beta",
        "gen1/conv2d_transpose/kernel", "gen1/conv2d_transpose/bias",
        "gen1/batch_normalization_2/gamma", "gen1/batch_normalization_2/beta",
        "gen0/conv2d_transpose/kernel", "gen0/conv2d_transpose/bias",
    ]  # fmt: skip


def test_a_tensorflow_1_checkpoint_is_read_without_its_optimizer(make_model, weights, tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, array in weights.items():
            tf.compat.v1.get_variable(name, initializer=array)
        for name in (
            "gen0/conv2d_transpose/bias/Adam",
            "gen0/conv2d_transpose/bias/Adam_1",
            "beta1_power",
            "global_step",
        ):
            tf.compat.v1.get_variable(name, initializer=np.float32(1))
        session.run(tf.compat.v1.global_variables_initializer())
        path = tf.compat.v1.train.Saver().save(session, str(tmp_path / "model"), global_step=7)
    model = make_model()
    kp.conversion.load_authors_weights(model, path)
    assert_loaded(model, weights)


def test_names_may_end_in_the_output_number_of_tensorflow_1(make_model, weights):
    model = make_model()
    kp.conversion.load_authors_weights(model, {f"{name}:0": array for name, array in weights.items()})
    assert_loaded(model, weights)


def test_every_problem_is_listed_and_the_model_is_left_as_it_was(make_model, weights):
    model = make_model()
    before = [np.array(weight) for weight in model.get_weights()]
    del weights["qh2/conv2d/bias"], weights["gen1/dense/kernel"]
    weights["gen9/dense/kernel"] = np.zeros((2, 2), "float32")
    weights["qh1/conv2d/kernel"] = np.zeros((3, 3, 1, 4), "float32")
    weights["qh1/conv2d/bias"] = np.full(4, np.nan, "float32")
    with pytest.raises(ValueError, match="with 5 problems") as caught:
        kp.conversion.load_authors_weights(model, weights)
    for line in (
        "missing: qh2/conv2d/bias (4,)",
        "missing: gen1/dense/kernel (2, 8)",
        "not finite: qh1/conv2d/bias",
        "unknown: gen9/dense/kernel (2, 2)",
        "wrong shape: qh1/conv2d/kernel is (3, 3, 1, 4), must be (4, 4, 1, 4)",
    ):
        assert line in str(caught.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_moving_statistics_are_folded_into_the_affine_layers(make_model, weights):
    scope = "qh1/batch_normalization"
    mean, variance = np.array([0.1, -0.2, 0.3, 0.0]), np.array([0.5, 1.0, 2.0, 4.0])
    model = make_model()
    kp.conversion.load_authors_weights(
        model, {**weights, f"{scope}/moving_mean": mean, f"{scope}/moving_variance": variance}
    )
    theirs = keras.layers.BatchNormalization(epsilon=1e-3)
    theirs.build((None, 4))
    theirs.set_weights([weights[f"{scope}/gamma"], weights[f"{scope}/beta"], mean, variance])
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    ours = model.encoder.get_layer("h_1_affine")
    np.testing.assert_allclose(ours(x), theirs(x, training=False), rtol=1e-5, atol=1e-6)


def test_a_path_without_a_checkpoint_is_named(make_model, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        kp.conversion.load_authors_weights(make_model(), tmp_path / "nothing-here")
    with pytest.raises(TypeError, match="Received: Sequential"):
        kp.conversion.load_authors_weights(keras.Sequential(), {})
