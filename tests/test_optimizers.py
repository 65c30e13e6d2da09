import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp

SHAPES = [(4, 3), (3,), (2, 2, 3, 5)]


def variables():
    rng = np.random.default_rng(0)
    return [keras.Variable(rng.normal(size=shape).astype("float32")) for shape in SHAPES]


def gradients(step):
    rng = np.random.default_rng(step + 1)
    return [tf.constant(rng.normal(size=shape).astype("float32")) for shape in SHAPES]


def train(optimizer, steps=5):
    trained = variables()
    for step in range(steps):
        optimizer.apply(gradients(step), trained)
    return [*trained, *optimizer.variables]


@pytest.mark.parametrize(
    "settings", [{}, {"weight_decay": 0.01, "clipnorm": 1.0}, {"amsgrad": True}, {"beta_1": 0.5, "beta_2": 0.9}]
)
def test_steps_are_those_of_adam(settings):
    decay = keras.optimizers.schedules.ExponentialDecay(1e-2, decay_steps=1, decay_rate=0.5)
    ours = train(kp.optimizers.FusedAdam(decay, epsilon=1e-4, **settings))
    expected = train(keras.optimizers.Adam(decay, epsilon=1e-4, **settings))
    for value, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-7, err_msg=value.path)


def test_a_variable_takes_one_operation():
    optimizer, variable = kp.optimizers.FusedAdam(), keras.Variable(np.ones(3, "float32"))
    optimizer.build([variable])

    @tf.function
    def step(gradient):
        optimizer.apply([gradient], [variable])

    operations = [node.type for node in step.get_concrete_function(tf.ones(3)).graph.get_operations()]
    assert operations.count("ResourceApplyAdam") == 1
    assert "Sqrt" not in operations


def test_sparse_gradients_update_like_keras():
    ours, theirs = (keras.Variable(np.ones((3, 2), "float32")) for _ in range(2))
    for optimizer, variable in (kp.optimizers.FusedAdam(0.1), ours), (keras.optimizers.Adam(0.1), theirs):
        for row in 1, 2, 1:
            optimizer.apply([tf.IndexedSlices(tf.ones((2, 2)), [row, row], (3, 2))], [variable])
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert np.all(np.asarray(ours)[0] == 1)


def test_other_dtypes_update_like_keras():
    trained = keras.Variable(np.ones(3), dtype="float64")
    kp.optimizers.FusedAdam(0.1).apply([tf.ones(3, "float64")], [trained])
    np.testing.assert_allclose(trained, [0.9] * 3, atol=1e-5)


def test_a_saved_optimizer_keeps_its_moments(images, tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile(kp.optimizers.adam(1e-2, beta_1=0.8), "mse", run_eagerly=True)
    model.train_on_batch(images, np.ones((40, 1)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is kp.optimizers.FusedAdam
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


def test_the_default_optimizer_of_a_model_is_fused(make_model):
    model = make_model()
    model.compile()
    assert type(model.optimizer) is kp.optimizers.FusedAdam
