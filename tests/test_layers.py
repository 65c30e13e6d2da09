import keras
import numpy as np
import pytest
from keras import ops

from keras_provlae.layers import ChannelAffine, Gate, Sampling


def test_samples_have_the_given_mean_and_deviation():
    mean = np.broadcast_to([-2.0, 0.0, 5.0], (20_000, 3)).astype("float32")
    log_var = np.broadcast_to(np.log([0.25, 1.0, 9.0]), (20_000, 3)).astype("float32")
    z = ops.convert_to_numpy(Sampling(seed=0)(mean, log_var))
    np.testing.assert_allclose(z.mean(0), mean[0], atol=0.08)  # 3 / sqrt(20,000) = 0.02 is one sigma
    np.testing.assert_allclose(z.std(0), [0.5, 1.0, 3.0], rtol=0.03)


def test_a_seed_repeats_the_noise_and_every_call_draws_new_noise():
    zero = np.zeros((4, 2), "float32")
    layer = Sampling(seed=1)
    first, second = (ops.convert_to_numpy(layer(zero, zero)) for _ in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, Sampling(seed=1)(zero, zero))


def test_channel_affine_is_batch_normalization_with_its_initial_statistics():
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype("float32")
    ours, theirs = ChannelAffine(), keras.layers.BatchNormalization(epsilon=1e-3)
    ours.build(x.shape)
    theirs.build(x.shape)
    for layer, gain, offset in (ours, "gain", "offset"), (theirs, "gamma", "beta"):
        getattr(layer, gain).assign([0.5, 2.0, -1.0])
        getattr(layer, offset).assign([0.0, 1.0, 3.0])
    np.testing.assert_allclose(ours(x), theirs(x, training=False), rtol=1e-5, atol=1e-6)


def test_a_gate_multiplies_by_its_own_entry_in_the_dtype_of_the_features():
    gates = np.array([1.0, 0.3, 0.0], "float32")
    features = ops.ones((2, 3, 3, 1), "float16")
    for index, gate in enumerate(gates):
        gated = Gate(index)(features, gates)
        assert keras.backend.standardize_dtype(gated.dtype) == "float16"
        np.testing.assert_allclose(ops.convert_to_numpy(gated), gate, rtol=1e-3)


def test_channel_affine_needs_a_non_negative_epsilon():
    with pytest.raises(ValueError, match="epsilon=-1"):
        ChannelAffine(epsilon=-1)
