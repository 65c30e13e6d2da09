import keras
import numpy as np
import pytest
from keras import ops

from keras_provlae.layers import ChannelAffine, Gate, Sampling


def test_sampling_draws_the_mean_and_the_deviation_it_is_given():
    mean = np.broadcast_to([-2.0, 0.0, 5.0], (20_000, 3)).astype("float32")
    log_var = np.broadcast_to(np.log([0.25, 1.0, 9.0]), (20_000, 3)).astype("float32")
    z = ops.convert_to_numpy(Sampling(seed=0)(mean, log_var))
    np.testing.assert_allclose(z.mean(0), mean[0], atol=0.08)  # 3 / sqrt(20,000) = 0.02 is one sigma
    np.testing.assert_allclose(z.std(0), [0.5, 1.0, 3.0], rtol=0.03)


def test_sampling_with_a_seed_repeats_and_without_moves_on():
    zero = np.zeros((4, 2), "float32")
    layer = Sampling(seed=1)
    first, second = (ops.convert_to_numpy(layer(zero, zero)) for _ in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, Sampling(seed=1)(zero, zero))


def test_sampling_saves_where_its_noise_is(tmp_path):
    def build():
        mean, log_var = keras.Input((2,)), keras.Input((2,))
        return keras.Model([mean, log_var], Sampling(seed=3)(mean, log_var))

    model, zero = build(), np.zeros((4, 2), "float32")
    model([zero, zero])
    model.save_weights(tmp_path / "noise.weights.h5")
    model.save(tmp_path / "noise.keras")
    expected = ops.convert_to_numpy(model([zero, zero]))
    restored = build()
    restored.load_weights(tmp_path / "noise.weights.h5")
    for other in restored, keras.models.load_model(tmp_path / "noise.keras"):
        np.testing.assert_array_equal(expected, other([zero, zero]))


def test_channel_affine_is_batch_normalisation_that_never_learned_statistics():
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype("float32")
    ours, theirs = ChannelAffine(), keras.layers.BatchNormalization(epsilon=1e-3)
    ours.build(x.shape)
    theirs.build(x.shape)
    for layer, gain, offset in (ours, "gain", "offset"), (theirs, "gamma", "beta"):
        getattr(layer, gain).assign([0.5, 2.0, -1.0])
        getattr(layer, offset).assign([0.0, 1.0, 3.0])
    np.testing.assert_allclose(ours(x), theirs(x, training=False), rtol=1e-5, atol=1e-6)


def test_gate_scales_by_its_own_entry_in_the_dtype_of_the_features():
    gates = np.array([1.0, 0.3, 0.0], "float32")
    features = ops.ones((2, 3, 3, 1), "float16")
    for index, gate in enumerate(gates):
        gated = Gate(index)(features, gates)
        assert keras.backend.standardize_dtype(gated.dtype) == "float16"
        np.testing.assert_allclose(ops.convert_to_numpy(gated), gate, rtol=1e-3)


@pytest.mark.parametrize("layer", [Sampling(seed=4), ChannelAffine(epsilon=0.1), Gate(index=2)])
def test_layers_are_serialisable(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()


def test_channel_affine_refuses_a_negative_epsilon():
    with pytest.raises(ValueError, match="epsilon=-1"):
        ChannelAffine(epsilon=-1)
