"""The contract of every model and every layer: state, copies, files and growth, in float32 and mixed precision."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_provlae as kp
from keras_provlae.layers import ChannelAffine, Gate, Sampling

# few layers: their number is what a model costs here
LADDER = {"image_shape": (8, 8, 1), "num_rungs": 2, "latent_dim": (2, 3), "channels": 4, "dense": None}
TRUNK = {"image_shape": (8, 8, 1), "latent_dim": 5, "stem": (4,), "channels": 4, "dense": 8}
MODELS = {
    kp.ProgressiveVAE: {**LADDER, "beta": 2.0, "gamma": 0.125, "activation": "leaky_relu"},
    kp.VLAE: {**LADDER, "likelihood": "gaussian", "tc_weight": 2.0, "dataset_size": 100, "decoder_affine": False},
    kp.BetaVAE: {**TRUNK, "beta": 4.0},
    kp.TeacherStudentVAE: {**LADDER, "stem": (4,), "lambda_z": 0.5, "lambda_jac": 0.25, "lambda_xcov": 0.125},
}
POLICIES = ["float32", "mixed_bfloat16"]
STATE = ("stage", "alpha", "iteration", "unlocked_rungs", "is_grown", "grows", "num_rungs", "rung_slices")
COPIES = {
    "serialization": lambda made: keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made)),
    "clone_model": keras.models.clone_model,
}


def numpy(value):
    return np.array(ops.convert_to_numpy(value))


def assert_equal(ours, theirs):
    for one, other in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        np.testing.assert_array_equal(numpy(one), numpy(other))


def state(model):
    return {name: getattr(model, name) for name in STATE}


# === Models ===


@pytest.fixture(scope="module", params=POLICIES)
def policy(request):
    return request.param


@pytest.fixture(scope="module", params=MODELS, ids=lambda cls: cls.__name__)
def model(request, policy):
    """A model with no weight at its initial value, halfway through a fade-in if it grows."""
    model = request.param(**MODELS[request.param], name="made", dtype=policy)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(numpy(variable) + 0.2 * rng.standard_normal(variable.shape))
    if model.grows:
        model.grow(fade_in_steps=6)
        model.iteration_variable.assign(3)
    model(np.zeros((1, 8, 8, 1), "float32"))  # moves the noise on
    return model


@pytest.fixture(scope="module")
def copy(model, policy):
    """The same model without its weights, copied in one of Keras's two ways, which both use its config."""
    return COPIES["clone_model" if policy == "float32" else "serialization"](model)


@pytest.fixture
def four(images):
    return images[:4]


def test_a_call_returns_posteriors_codes_and_logits(model, four):
    shapes = {"mean": (4, 5), "log_var": (4, 5), "codes": (4, 5), "logits": (4, 8, 8, 1)}
    found = model(four)
    assert {name: tuple(value.shape) for name, value in found.items()} == shapes
    assert {keras.backend.standardize_dtype(value.dtype) for value in found.values()} == {"float32"}
    assert all(np.isfinite(value).all() for value in found.values())
    assert_equal([found["mean"], found["log_var"]], model.encode(four))
    assert_equal(ops.sigmoid(found["logits"]), model.decode(found["codes"]))


def test_no_image_gives_no_rows(model, four):
    shapes = {"mean": (0, 5), "log_var": (0, 5), "codes": (0, 5), "logits": (0, 8, 8, 1)}
    assert {name: tuple(value.shape) for name, value in model(four[:0]).items()} == shapes
    codes = [*model.encode(four[:0]), *model.encode_on_batch(four[:0])]
    assert [tuple(code.shape) for code in codes] == [(0, 5)] * 4
    pictures = [model.reconstruct(four[:0]), model.decode(codes[0]), model.decode_on_batch(codes[0])]
    assert [tuple(picture.shape) for picture in pictures] == [(0, 8, 8, 1)] * 3


def test_every_model_tells_how_far_it_has_grown(model):
    rungs = 1 if type(model) is kp.BetaVAE else 2
    assert state(model) == {
        "stage": rungs - 1,
        "alpha": 0.5 if type(model) is kp.ProgressiveVAE else 1.0,
        "iteration": 3 if model.grows else 0,
        "unlocked_rungs": [2, 1][-rungs:],
        "is_grown": True,
        "grows": type(model) in (kp.ProgressiveVAE, kp.TeacherStudentVAE),
        "num_rungs": rungs,
        "rung_slices": [(2, slice(0, 3)), (1, slice(3, 5))] if rungs == 2 else [(1, slice(0, 5))],
    }
    assert hasattr(model, "grow") == model.grows
    vectors = [numpy(of()) for of in (model.encoder_gates, model.decoder_gates, model.kl_weights)]
    assert {(vector.shape, str(vector.dtype)) for vector in vectors} == {((rungs,), "float32")}


def test_a_copy_has_every_argument(model, copy):
    config, settings = copy.get_config(), MODELS[type(model)]
    assert type(copy) is type(model)
    assert config == model.get_config()
    assert (copy.name, copy.dtype_policy.name) == ("made", model.dtype_policy.name)
    assert (copy.spec, copy.rung_widths) == (model.spec, model.rung_widths)
    assert [weight.path for weight in copy.weights] == [weight.path for weight in model.weights]
    names = settings.keys() - {"latent_dim", "channels", "dense", "activation", "decoder_affine"}  # in the spec
    assert {name: config[name] for name in names} == {name: settings[name] for name in names}


def test_files_keep_the_weights_the_state_and_the_noise(model, copy, four, tmp_path):
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    expected = model(four)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    copy.load_weights(tmp_path / "model.weights.h5")
    for restored in loaded, copy:
        assert state(restored) == state(model)
        assert_equal(restored(four), expected)


def test_a_step_is_the_same_with_the_acceleration_and_without(model, copy, four):
    """From the same state and noise: the logs, and the weights after a step of gradient descent."""
    copy.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    found = []
    for switch in kp.acceleration.enable, kp.acceleration.disable:
        copy.set_weights(model.get_weights())
        copy.optimizer.iterations.assign(0)
        copy.sampling.seed_generator.state.assign([3, 0])
        copy.reset_metrics()
        switch()
        try:
            logs = copy.train_on_batch(four, return_dict=True)
        finally:
            kp.acceleration.enable()
        assert copy.iteration == model.iteration + 1
        found.append([numpy(value).astype("float64") for value in (*logs.values(), *copy.trainable_variables)])
    tolerance = 1e-4 if model.dtype_policy.name == "float32" else 0.05
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * (1e-3 + np.abs(theirs).max()))
    before = [numpy(variable) for variable in model.trainable_variables]
    assert sum(np.any(numpy(now) != old) for now, old in zip(copy.trainable_variables, before, strict=True)) > 20


@pytest.mark.parametrize("cls", [cls for cls in MODELS if cls.grows])
def test_a_model_that_grows_unlocks_rung_by_rung(cls):
    model, seen = cls(**MODELS[cls]), []
    for grow in False, True:
        if grow:
            model.grow(fade_in_steps=0)
        gates = numpy(model.decoder_gates()).tolist()
        seen.append((model.stage, model.unlocked_rungs, model.is_grown, gates, model.alpha))
    assert seen == [(0, [2], False, [1.0, 0.0], 1.0), (1, [2, 1], True, [1.0, 1.0], 1.0)]
    with pytest.raises(ValueError, match="fully grown"):
        model.grow()


# === Layers ===

LAYERS = {
    Sampling: ({"seed": 3}, [(4, 5), (4, 5)], "float32"),
    ChannelAffine: ({"epsilon": 0.1}, [(4, 3, 3, 5)], None),
    Gate: ({"index": 1}, [(4, 3, 3, 5), (3,)], None),
}


def symbolic(shapes):
    return [keras.Input(shape[1:]) if len(shape) > 1 else keras.Input(batch_shape=shape) for shape in shapes]


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_a_layer_is_built_copied_and_saved(cls, policy, tmp_path):
    settings, shapes, dtype = LAYERS[cls]
    layer = cls(**settings, name="made", dtype=policy)
    dtype = dtype or layer.compute_dtype
    rng = np.random.default_rng(0)
    values = [rng.random(shape, "float32") for shape in shapes]
    values = [ops.convert_to_tensor(value) for value in values]
    if cls is Gate:  # keeps the dtype of its features
        values[0] = ops.cast(values[0], dtype)
    spec = layer.compute_output_spec(*(keras.KerasTensor(value.shape, layer.compute_dtype) for value in values))
    found = layer(*values)
    assert layer.built
    assert tuple(found.shape) == tuple(spec.shape) == shapes[0]
    assert keras.backend.standardize_dtype(found.dtype) == spec.dtype == dtype

    serialized = keras.saving.serialize_keras_object(layer)
    for copy in cls.from_config(layer.get_config()), keras.saving.deserialize_keras_object(serialized):
        assert type(copy) is cls
        assert copy.get_config() == layer.get_config()
        assert copy.get_config().items() >= {**settings, "name": "made"}.items()

    inputs = symbolic(shapes)
    network = keras.Model(inputs, layer(*inputs))
    for variable in network.trainable_variables:
        variable.assign(rng.random(variable.shape))
    clone = keras.models.clone_model(network)
    network.save(tmp_path / "network.keras")
    network.save_weights(tmp_path / "network.weights.h5")
    expected = network(values)
    assert_equal(keras.models.load_model(tmp_path / "network.keras")(values), expected)
    clone.load_weights(tmp_path / "network.weights.h5")
    assert_equal(clone(values), expected)
