import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp


def train(make_model, images, optimizer):
    keras.utils.set_random_seed(0)
    model = make_model()
    model.compile(optimizer, run_eagerly=True)  # a few steps take less time than three graphs
    history = model.fit(images, batch_size=40, epochs=3, shuffle=False, verbose=0, callbacks=[kp.GrowthCallback()])
    return history.history["loss"], model


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.01, "clipnorm": 1.0}, {"amsgrad": True}])
def test_it_takes_the_steps_of_adam(make_model, images, settings):
    losses, model = train(make_model, images, kp.optimizers.FusedAdam(1e-3, epsilon=1e-8, **settings))
    expected, other = train(make_model, images, keras.optimizers.Adam(1e-3, epsilon=1e-8, **settings))
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6, err_msg=ours.path)
    for ours, theirs in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6, err_msg=ours.path)


def test_it_is_one_operation_a_variable():
    optimizer, variable = kp.optimizers.FusedAdam(), keras.Variable(np.ones(3, "float32"))
    optimizer.build([variable])

    @tf.function
    def step(gradient):
        optimizer.apply([gradient], [variable])

    operations = [node.type for node in step.get_concrete_function(tf.ones(3)).graph.get_operations()]
    assert operations.count("ResourceApplyAdam") == 1
    assert "Sqrt" not in operations


def test_rows_of_an_embedding_are_left_to_keras():
    optimizer, variable = kp.optimizers.FusedAdam(0.1), keras.Variable(np.ones((3, 2), "float32"))
    optimizer.apply([tf.IndexedSlices(tf.ones((1, 2)), [1], (3, 2))], [variable])
    np.testing.assert_allclose(variable, [[1, 1], [0.9, 0.9], [1, 1]], atol=1e-5)


def test_it_comes_back_from_a_file_with_its_moments(make_model, images, tmp_path):
    _, model = train(make_model, images, None)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is kp.optimizers.FusedAdam
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)
