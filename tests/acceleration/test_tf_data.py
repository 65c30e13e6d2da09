"""Data sets are read without tf.data's autotuner, unless its option is set."""

import keras
import tensorflow as tf

import keras_provlae as kp
from keras_provlae.acceleration.tf_data import without_autotuner


def test_other_options_and_other_data_are_unchanged(images):
    options = tf.data.Options()
    options.deterministic = True
    data = tf.data.Dataset.range(3).with_options(options)
    read = without_autotuner(data)
    assert (read.options().autotune.enabled, read.options().deterministic) == (False, True)
    assert [int(number) for number in read] == [0, 1, 2]
    options.autotune.enabled = True
    data = data.with_options(options)
    for other in data, images, (images, None), None:
        assert without_autotuner(other) is other


def test_fit_reads_images_and_validation_images_without_it(make_model, images, monkeypatch):
    seen = {}

    def fit(self, x, validation_data=None, callbacks=None, **kwargs):
        seen.update(x=x, validation_data=validation_data)

    monkeypatch.setattr(keras.Model, "fit", fit)
    model = make_model(kp.VLAE, num_rungs=1, dense=None)
    data = tf.data.Dataset.from_tensor_slices(images).batch(8)
    model.fit(data, validation_data=data)
    for name in "x", "validation_data":
        assert seen[name].options().autotune.enabled is False
