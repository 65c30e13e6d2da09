"""The faster training loop takes the same steps as Keras's loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_provlae.acceleration.step_function import step_function, train_function_of
from keras_provlae.training.trainer import ImageModel


def test_every_iterator_is_read_to_its_end_and_traced_once():
    traced = []

    def add(x):
        traced.append(x)
        return {"sum": tf.reduce_sum(x)}

    step = step_function(add, otherwise=None)
    sets = [[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]], np.ones((2, 7, 3), "float32")
    iterators = [iter(tf.data.Dataset.from_tensor_slices(data)) for data in sets]
    for data, iterator in zip(sets, iterators, strict=True):
        assert [float(step(iterator)["sum"]) for _ in data] == [np.sum(part) for part in data]
        with pytest.raises(tf.errors.OutOfRangeError):
            step(iterator)
    assert len(traced) == 2


def test_other_iterators_are_left_to_keras():
    assert step_function(None, otherwise=list)(iter([1, 2])) == [1, 2]


def test_an_optional_stands_for_none():
    data = tf.data.Dataset.from_tensors((1.0, tf.experimental.Optional.from_value(2.0)))
    step = step_function(lambda parts: {"images": parts[0], "are_alone": parts[1] is None}, otherwise=None)
    assert {name: value.numpy() for name, value in step(iter(data)).items()} == {"images": 1.0, "are_alone": True}


def test_training_equals_that_of_the_function_of_keras(make_model, images, monkeypatch):
    """Logs and weights are equal bit for bit."""
    results = []
    for function_of in train_function_of, lambda model, function: function:
        monkeypatch.setattr(ImageModel, "train_function_of", staticmethod(function_of))
        keras.utils.set_random_seed(0)
        model = make_model(num_rungs=1, dense=None)
        model.compile()
        data = tf.data.Dataset.from_tensor_slices(images).batch(15)
        results.append((model.fit(data, epochs=2, verbose=0).history, model.get_weights()))
    (history, weights), (expected, expected_weights) = results
    assert history == expected
    for ours, theirs in zip(weights, expected_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_other_ways_to_train_are_left_to_keras(make_model):
    model = make_model(num_rungs=1, dense=None)
    for settings in {"run_eagerly": True}, {"steps_per_execution": 2}, {"jit_compile": True}:
        model.compile("sgd", **settings)
        assert train_function_of(model, print) is print
    model.compile("sgd")
    assert train_function_of(model, print) is not print


def test_replicas_are_left_to_keras(make_model):
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        model = make_model(num_rungs=1, dense=None)
        model.compile("sgd")
    assert train_function_of(model, print) is print
