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
def parity(request):
    from tests.conftest import SHARED

    if not SHARED.is_dir():
        pytest.skip("no reference data beside the repository")
    return Parity(SHARED, request.param)


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
    for stage in stages(parity):
        model = parity.set_stage(stage)
        model.compile(keras.optimizers.Adam(parity.settings["learning_rate"], epsilon=parity.settings["adam_epsilon"]))
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
