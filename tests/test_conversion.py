"""The authors' program at every stage: posteriors, logits, gradients, losses and Adam steps."""

import json
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp

PARITY = Path(__file__).parent / "data" / "parity"


def authors_array(name, shape):
    """The weight of the parity references with this name."""
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


class RecordingAdam(kp.optimizers.FusedAdam):
    """Keeps the gradients of every step by the path of the variable; can skip the update."""

    updates = True

    def apply(self, grads, trainable_variables=None):
        self.gradients = {v.path: g for g, v in zip(grads, trainable_variables, strict=True) if g is not None}
        if self.updates:
            super().apply(grads, trainable_variables)


class Parity:
    """One reference case: the authors' weights and inputs in our model."""

    def __init__(self, case):
        self.settings = json.loads((PARITY / f"{case}.json").read_text())
        with np.load(PARITY / f"{case}.npz") as file:
            self.arrays = dict(file)
        self.model = kp.ProgressiveVAE.from_preset(
            case,
            latent_dim=self.settings["z_dim"],
            beta=self.settings["beta"],
            gamma=self.settings["gamma"],
        )
        self.variables = kp.conversion.authors_variables(self.model)
        shapes = self.settings.get("variables") or {name: v.shape for name, v in self.variables.items()}
        self.weights = {name: authors_array(name, tuple(shape)) for name, shape in shapes.items()}
        shape = (self.settings["batch"], *self.model.spec.image_shape)
        self.images = np.random.RandomState(7).uniform(size=shape).astype("float32")
        codes = [
            np.random.RandomState(200 + rung).standard_normal((self.settings["batch"], self.settings["z_dim"]))
            for rung in range(self.settings["rungs"], 0, -1)
        ]
        self.codes = np.concatenate(codes, axis=1).astype("float32")

        kp.conversion.load_authors_weights(self.model, self.weights)

    def set_stage(self, stage):
        """Sets a stage, with alpha fixed like the authors'."""
        model = self.model
        model.stage_variable.assign(stage)
        model.unlocked_at_variable.assign(0)
        model.fade_in_steps_variable.assign(1_000_000_000 if stage else 0)  # alpha changes by 1e-9 per step
        model.iteration_variable.assign(round(self.settings["alpha"] * 1_000_000_000))


@pytest.fixture(scope="module", params=["dsprites", "shapes3d", "celeb_a"])
def parity(request):
    return Parity(request.param)


def test_posteriors_and_logits_agree_at_every_stage(parity):
    model = parity.model
    for stage in range(model.num_rungs):
        parity.set_stage(stage)
        mean, log_var = model.encode(parity.images)
        for rung, columns in model.rung_slices:
            for name, values in ("mean", mean), ("logvar", log_var):
                expected = parity.arrays[f"s{stage + 1}_{name}{rung}"]
                np.testing.assert_allclose(values[:, columns], expected, rtol=1e-4, atol=1e-5)
        expected = parity.arrays[f"s{stage + 1}_logits"]
        codes = keras.ops.convert_to_tensor(parity.codes[: len(expected)])
        logits = np.asarray(model.decoder([codes, model.decoder_gates()]))
        np.testing.assert_allclose(logits[:, 2::5, 2::5], expected, rtol=1e-4, atol=1e-4)


def test_gradients_and_adam_steps_agree(parity, acceleration, monkeypatch):
    monkeypatch.setattr(kp.layers.Sampling, "call", lambda self, mean, log_var: mean)
    model, settings = parity.model, parity.settings
    runs = list(settings["runs"].items())
    for stage, run in runs if acceleration == "accelerated" else runs[:1]:
        parity.set_stage(int(stage) - 1)
        adam = RecordingAdam(settings["learning_rate"], epsilon=settings["adam_epsilon"])
        model.compile(adam, run_eagerly=True)  # cheaper than tracing for a few steps
        rows = []
        for step in range(len(run["trajectory"])):
            adam.updates = step + 1 < len(run["trajectory"])
            rows.append(terms(model.train_on_batch(parity.images, return_dict=True), model))
            if not step:
                norms = {path: float(tf.norm(gradient)) for path, gradient in adam.gradients.items()}
        np.testing.assert_allclose(rows, run["trajectory"], rtol=1e-4, atol=1e-5)
        for name, norm in run["gradient_norms"].items():
            ours = norms.get(parity.variables[name].path, 0.0)
            assert ours == pytest.approx(norm, rel=1e-3, abs=1e-5), (stage, name)
        if len(rows) > 1:
            kp.conversion.load_authors_weights(model, parity.weights)


def terms(logs, model):
    model.reset_metrics()
    return [logs["loss"], logs["reconstruction"]] + [logs[f"kl_rung_{r}"] for r in range(1, model.num_rungs + 1)]


def test_names_and_shapes_are_the_authors(parity):
    expected = parity.settings.get("variables")
    if expected is not None:
        trained = {name: tuple(shape) for name, shape in expected.items() if "/moving_" not in name}
        assert {name: tuple(variable.shape) for name, variable in parity.variables.items()} == trained


# === Without references ===


@pytest.fixture(scope="module")
def model():
    return kp.ProgressiveVAE((8, 8, 1), num_rungs=3, latent_dim=2, channels=4, dense=8)


@pytest.fixture
def weights(model):
    """Weights for the small model, under the authors' names."""
    variables = kp.conversion.authors_variables(model)
    return {name: authors_array(name, tuple(variable.shape)) for name, variable in variables.items()}


@pytest.fixture(autouse=True)
def _reset(request):
    """Starts every test of the small model from other weights."""
    if "model" in request.fixturenames:
        model = request.getfixturevalue("model")
        model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])


def assert_loaded(model, weights):
    for name, variable in kp.conversion.authors_variables(model).items():
        np.testing.assert_allclose(variable, weights[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_names_are_numbered_like_tensorflow_1(make_model):
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


def test_a_tensorflow_1_checkpoint_is_read_without_its_optimizer(model, weights, tmp_path):
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
    kp.conversion.load_authors_weights(model, path)
    assert_loaded(model, weights)


def test_names_may_end_in_a_tensorflow_1_output_number(model, weights):
    kp.conversion.load_authors_weights(model, {f"{name}:0": array for name, array in weights.items()})
    assert_loaded(model, weights)


def test_every_problem_is_listed_and_the_model_keeps_its_weights(model, weights):
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


def test_moving_statistics_are_folded_into_the_affine_layers(model, weights):
    scope = "qh1/batch_normalization"
    mean, variance = np.array([0.1, -0.2, 0.3, 0.0]), np.array([0.5, 1.0, 2.0, 4.0])
    kp.conversion.load_authors_weights(
        model, {**weights, f"{scope}/moving_mean": mean, f"{scope}/moving_variance": variance}
    )
    theirs = keras.layers.BatchNormalization(epsilon=1e-3)
    theirs.build((None, 4))
    theirs.set_weights([weights[f"{scope}/gamma"], weights[f"{scope}/beta"], mean, variance])
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    ours = model.encoder.get_layer("h_1_affine")
    np.testing.assert_allclose(ours(x), theirs(x, training=False), rtol=1e-5, atol=1e-6)


def test_a_path_without_a_checkpoint_is_named(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        kp.conversion.load_authors_weights(model, tmp_path / "nothing-here")
    with pytest.raises(TypeError, match="Received: Sequential"):
        kp.conversion.load_authors_weights(keras.Sequential(), {})
