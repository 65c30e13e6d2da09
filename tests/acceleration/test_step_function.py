"""The training step is called as Keras calls it, with less in between."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_provlae.acceleration.step_function import step_function
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


def test_what_is_no_iterator_of_tensorflow_is_left_to_keras():
    assert step_function(None, otherwise=list)(iter([1, 2])) == [1, 2]


def test_an_optional_stands_for_none():
    data = tf.data.Dataset.from_tensors((1.0, tf.experimental.Optional.from_value(2.0)))
    step = step_function(lambda parts: {"images": parts[0], "are_alone": parts[1] is None}, otherwise=None)
    assert {name: value.numpy() for name, value in step(iter(data)).items()} == {"images": 1.0, "are_alone": True}


def train(make_model, images, **settings):
    keras.utils.set_random_seed(0)
    model = make_model(num_rungs=2)
    model.compile(**settings)
    history = model.fit(tf.data.Dataset.from_tensor_slices(images).batch(15), epochs=2, verbose=0)
    return history.history, model


def is_ours(model):
    return model.train_function.__module__ == step_function.__module__


def test_training_is_what_it_is_with_the_function_of_keras(make_model, images, monkeypatch):
    history, model = train(make_model, images)
    assert is_ours(model)
    monkeypatch.setattr(ImageModel, "_steps_alone", lambda self: False)
    expected, of_keras = train(make_model, images)
    assert not is_ours(of_keras)
    assert history == expected
    for ours, theirs in zip(model.variables, of_keras.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


@pytest.mark.parametrize("settings", [{"run_eagerly": True}, {"steps_per_execution": 2}, {"jit_compile": True}])
def test_other_ways_to_train_are_those_of_keras(make_model, settings):
    model = make_model()
    model.compile(**settings)
    model.make_train_function()
    assert not is_ours(model)


def test_replicas_train_as_keras_has_them(make_model):
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        model = make_model()
        model.compile()
    model.make_train_function()
    assert not is_ours(model)
