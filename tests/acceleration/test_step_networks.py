"""The networks of a training step compute the same as those of `ladder`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp
from keras_provlae import ladder
from keras_provlae.acceleration import convolutions, step_networks

SMALL = {"num_rungs": 3, "latent_dim": (1, 2, 3), "channels": 4, "dense": None}


def built(shape=(8, 8, 1), dtype=None, **settings):
    """Returns layers and networks of an encoder and a decoder, with every bias, gain and offset moved from 0 or 1."""
    spec = ladder.ladder_spec(shape, **{**SMALL, **settings})
    layers = ladder.encoder_layers(spec, dtype), ladder.decoder_layers(spec, dtype)
    networks = ladder.encoder_network(spec, layers[0]), ladder.decoder_network(spec, layers[1])
    random = np.random.default_rng(1)
    for network in networks:
        for variable in network.trainable_variables:
            variable.assign(ops.convert_to_numpy(variable) + random.uniform(0.2, 0.6, variable.shape))
    return (*layers, *networks)


def operations(function, *shapes):
    """Returns the types of the TensorFlow operations in a function of float32 tensors."""
    specs = [tf.TensorSpec(shape, "float32") for shape in shapes]
    return [op.type for op in tf.function(function).get_concrete_function(*specs).graph.get_operations()]


def assert_same(ours, theirs, dtype="float32"):
    tolerance = 1e-5 if dtype in (None, "float32") else 0.05
    for one, other in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        one, other = (ops.convert_to_numpy(ops.cast(value, "float32")) for value in (one, other))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize(
    ("shape", "dtype", "slow", "affine"),  # `slow`: transposed convolutions are computed as convolutions
    [
        ((8, 8, 1), "float32", False, True),
        ((9, 7, 2), "float32", True, True),
        ((9, 7, 2), "float32", False, False),
        ((8, 8, 1), "mixed_bfloat16", True, False),
        ((9, 7, 2), "mixed_bfloat16", False, True),
    ],
)
def test_the_decoder_of_every_stage(monkeypatch, shape, dtype, slow, affine):
    for module in convolutions, step_networks:
        monkeypatch.setattr(module, "transposes_slowly", lambda: slow)
    _, layers, _, network = built(shape, dtype, decoder_affine=affine)
    codes = ops.convert_to_tensor(np.random.default_rng(0).standard_normal((5, 6)).astype("float32"))
    for stage in 0, 1, 2:
        gates = ops.convert_to_tensor(np.array([1.0, 0.6, 0.3], "float32") * (np.arange(3) <= stage))
        rungs = [3, 2, 1][: stage + 1]
        whole = network([codes, gates])
        assert_same(ladder.decode(layers, codes, gates, rungs), whole, dtype)
        assert_same(step_networks.decode(layers, codes, gates, rungs), whole, dtype)
    assert_same(step_networks.decode(layers, codes, gates), whole, dtype)


@pytest.mark.parametrize("wiring", [ladder, step_networks])
def test_a_locked_rung_is_not_computed(wiring):
    _, layers, _, network = built(channels=5)
    gates, variables = ops.convert_to_tensor([1.0, 0.0, 0.0]), network.trainable_variables
    with tf.GradientTape() as tape:
        logits = wiring.decode(layers, ops.ones((2, 6)), gates, [3])
    gradients = tape.gradient(logits, [variable.value for variable in variables])
    paths = [variable.path for variable, one in zip(variables, gradients, strict=True) if one is not None]
    used = {path.split("/")[-2].removesuffix("_affine") for path in paths}
    assert used == {"m_3", "g_3_conv_1", "g_2_conv_1", "g_1_conv_1", "logits"}
    counts = []
    for rungs in [3], None:
        counts.append(operations(lambda z, r=rungs: wiring.decode(layers, z, gates, r), (2, 6)).count("MatMul"))
    assert counts[1] - counts[0] == 2  # the dense layers of m_2 and of m_1


@pytest.mark.parametrize(
    ("head_convs", "convolutions", "dtype"),
    [
        (None, 4, "float32"),  # h_1; h_2 with head 1; h_3 with head 2; head 3
        ((((6, 2), (6, 1)), (), ((4, 1),)), 5, "float32"),  # h_1; h_2 with head 1; its second; h_3; head 3
        ((((4, 1),), ((7, 2),), ()), 4, "float32"),  # h_1; head 1, of another stride; h_2; h_3 with head 2
        ((((6, 2), (6, 1)), (), ((4, 1),)), 5, "mixed_bfloat16"),
    ],
)
def test_the_encoder(head_convs, convolutions, dtype):
    layers, _, network, _ = built(dtype=dtype, head_convs=head_convs)
    images = ops.convert_to_tensor(np.random.default_rng(0).random((5, 8, 8, 1), "float32"))
    ungated = ops.convert_to_numpy(network([images, ops.ones(3)])[0])
    gates = ops.convert_to_tensor([0.7, 0.0, 0.4])
    whole = network([images, gates])
    assert np.abs(ops.convert_to_numpy(whole[0]) - ungated).max() > 0.1
    assert_same(ladder.encode(layers, images, gates), whole, dtype)
    assert_same(step_networks.encode(layers, images, gates), whole, dtype)
    counted = operations(lambda x: step_networks.encode(layers, x, ops.ones(3)), images.shape).count("Conv2D")
    assert counted == convolutions


def test_a_transposed_convolution_equals_a_convolution_and_depth_to_space():
    random = np.random.default_rng(0)
    g, kernel = (random.normal(size=size).astype("float32") for size in ((2, 3, 5, 4), (4, 4, 6, 4)))
    expected = ops.conv_transpose(g, kernel, 2, "same", data_format="channels_last")
    np.testing.assert_allclose(convolutions.doubled(g, kernel), expected, atol=1e-4)


def test_gradients_of_the_logits_are_those_of_the_plain_decoder():
    """The logits are a convolution with its own gradient function."""
    _, layers, _, network = built()
    codes = ops.convert_to_tensor(np.random.default_rng(0).standard_normal((5, 6)).astype("float32"))
    variables, found = [variable.value for variable in network.trainable_variables], []
    for wiring in ladder, step_networks:
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(wiring.decode(layers, codes, ops.ones(3))))
        found.append(tape.gradient(loss, variables))
    assert_same(found[1], found[0])


def test_it_can_be_switched_off_and_on():
    assert kp.acceleration.is_enabled()
    kp.acceleration.disable()
    try:
        assert not kp.acceleration.is_enabled()
        assert kp.LadderVAE.step_wiring is ladder
        data = tf.data.Dataset.range(3)
        assert kp.VLAE.reads(data) is data
        assert kp.VLAE.train_function_of(None, print) is print
    finally:
        kp.acceleration.enable()
    assert kp.LadderVAE.step_wiring is step_networks
    assert kp.VLAE.reads(tf.data.Dataset.range(3)).options().autotune.enabled is False


def test_the_environment_variable_is_checked(monkeypatch):
    monkeypatch.setenv("KERAS_PROVLAE_ACCELERATION", "off")
    with pytest.raises(ValueError, match="must be 0 or 1. Received: 'off'"):
        kp.acceleration.install()
