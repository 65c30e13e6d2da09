"""Checks of any image model before the first step, and of its batches, losses and regularizers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp
from keras_provlae.training.prediction import on_any_rows


@pytest.fixture(scope="module")
def model():
    """A model for calls that fail before they change anything."""
    model = kp.VLAE((8, 8, 1), num_rungs=1, latent_dim=1, channels=4, dense=8)
    model.compile(run_eagerly=True)
    return model


def dataset(images, size=8):
    return tf.data.Dataset.from_tensor_slices(images).batch(size)


def nothing(images):
    return tf.data.Dataset.from_tensor_slices(images).filter(lambda image: False).batch(8)


BAD_DATA = {
    "bytes": (lambda x: (x * 255).astype("uint8"), TypeError, "floating point"),
    "0 .. 255": (lambda x: x * 255, ValueError, "Divide 8-bit images by 255"),
    "0 .. 255, with labels": (lambda x: (x * 255, np.zeros(len(x))), ValueError, "Divide 8-bit images"),
    "0 .. 255, a data set": (lambda x: dataset(x * 255), ValueError, "Divide 8-bit images by 255"),
    "0 .. 255, a generator": (lambda x: ((batch,) for batch in [x * 255]), ValueError, "Divide 8-bit images"),
    "a generator of no tuples": (lambda x: (batch for batch in [x]), TypeError, "must yield tuples"),
    "another size": (lambda x: x[:, :4], ValueError, "must have the shape"),
    "another size, a data set": (lambda x: dataset(x[:, :4]), ValueError, "must have the shape"),
    "a ground truth": (lambda x: kp.datasets.scenes(), TypeError, "`validation_data` needs batches of images"),
    "no end": (lambda x: dataset(x).repeat(), ValueError, "pass `validation_steps`"),
    "no image": (lambda x: x[:0], ValueError, "at least one image"),
    "no batch": (lambda x: dataset(x[:4]).take(0), ValueError, "without a batch"),
    "nothing left": (lambda x: nothing(x), ValueError, "without a batch"),
    "weights": (lambda x: (x, x, np.ones(len(x))), ValueError, "leave out `the sample weights"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_validation_data_are_refused_before_the_first_step(model, images, case):
    make, error, message = BAD_DATA[case]
    with pytest.raises(error, match=f"^`validation_data`: .*{message}"):
        model.fit(images, validation_data=make(images), verbose=0)
    assert int(model.optimizer.iterations) == 0


def test_automatic_growth_asks_for_validation_before_the_first_step(make_model, images):
    model = make_model(num_rungs=1)
    model.compile()
    for settings in {}, {"validation_data": None}, {"validation_data": images, "validation_freq": 2}:
        with pytest.raises(ValueError, match=r"follows the ELBO of validation images.*Received: validation_data"):
            model.fit(images, callbacks=[kp.GrowthCallback("auto")], verbose=0, **settings)
    assert model.iteration == 0


def test_the_first_batch_of_a_generator_is_checked_and_not_lost(model, images, monkeypatch):
    seen = []
    monkeypatch.setattr(keras.Model, "fit", lambda self, x, validation_data, **kwargs: seen.extend(validation_data))
    model.fit(images, validation_data=((images[i : i + 8],) for i in (0, 8, 16)))
    np.testing.assert_array_equal(np.concatenate([batch for (batch,) in seen]), images[:24])


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize("make", [lambda x: x[:0], lambda x: dataset(x[:4]).take(0)])
def test_fit_and_evaluate_refuse_data_without_an_image(model, images, method, make):
    with pytest.raises(ValueError, match=f"`{method}` needs at least one image. Received: "):
        getattr(model, method)(make(images), verbose=0)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_the_error_blames_a_filter_that_leaves_nothing(model, images, method):
    with pytest.raises(ValueError, match="The data set gave no batch. Look at what filters it"):
        getattr(model, method)(nothing(images), verbose=0)


def test_predictions_for_no_image_have_no_rows(model, images):
    for data in images[:0], nothing(images), dataset(images).take(0):
        shapes = {name: value.shape for name, value in model.predict(data).items()}
        assert shapes == {"mean": (0, 1), "log_var": (0, 1), "codes": (0, 1), "logits": (0, 8, 8, 1)}


def test_a_function_of_rows_never_sees_an_empty_batch():
    """The shape of TensorFlow's convolution of an empty batch is wrong where oneDNN computes it."""
    seen = []

    def function(rows):
        seen.append(tuple(rows.shape))
        return {"sum": ops.sum(rows, axis=1)}

    assert np.array_equal(on_any_rows(function, np.ones((2, 3), "float32"))["sum"], [3, 3])
    assert on_any_rows(function, np.ones((0, 3), "float32"))["sum"].shape == (0,)
    assert seen == [(2, 3), (1, 3)]


def test_rounding_overshoot_is_clipped(make_model, images):
    images[0, 0, 0], images[0, 0, 1] = 1, 0
    over = images.copy()
    over[0, 0, 0], over[0, 0, 1] = 1.0009, -0.0009
    model = make_model(num_rungs=1)
    for method in model.encode, model.encode_on_batch:
        np.testing.assert_array_equal(method(over)[0], method(images)[0])
    outputs = model(images)
    losses = [float(model.compute_loss(x=x, y_pred=outputs, training=False)) for x in (over, images)]
    assert losses[0] == losses[1]
    model.compile(run_eagerly=True)
    model.train_on_batch(over)
    over[0, 0, 0] = 1.0011
    with pytest.raises(kp.InvalidImagesError, match="overshoot of an interpolation"):
        model.encode(over)


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda x: x * 255, "Divide 8-bit images by 255"),
        (lambda x: x * 2 - 1, r"Map \[-1, 1\] to \[0, 1\]"),
        (lambda x: x * 1.2 - 0.1, "overshoot of an interpolation: clip it"),
        (lambda x: x / (x > 0.5), "Remove or replace NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value) encountered:RuntimeWarning")
def test_the_error_says_what_out_of_range_pixels_look_like(model, images, change, advice):
    images[0, 0, :2, 0] = 0, 1
    with pytest.raises(ValueError, match=advice):
        model.encode(change(images))
    with pytest.raises(ValueError, match=advice):
        model.train_on_batch(change(images))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ["mse"]}, r"takes no `metrics`.*DisentanglementMonitor.*Received: metrics=\['mse'\]"),
        ({"metrics": {"logits": "mse"}}, "takes no `metrics`"),
        ({"weighted_metrics": [kp.metrics.MIG()]}, "takes no `weighted_metrics`"),
        ({"loss_weights": [2.0]}, "leave out `loss_weights`"),
    ],
)
def test_compile_refuses_arguments_that_it_would_ignore(model, settings, message):
    with pytest.raises(ValueError, match=message):
        model.compile(**settings)


class Penalized(kp.VLAE):
    def call(self, images, training=None):
        self.add_loss(ops.convert_to_tensor(1.5))
        return super().call(images, training=training)


def test_regularizers_and_added_losses_are_part_of_the_loss(make_model, images):
    model = make_model(Penalized, num_rungs=1)
    kernel = model.encoder.get_layer("mean_1").kernel
    kernel.regularizer = keras.regularizers.L2(0.5)
    expected = 1.5 + 0.5 * float(ops.sum(kernel**2))
    model.compile(run_eagerly=True)
    logs = model.test_on_batch(images, return_dict=True)
    assert logs["regularization"] == pytest.approx(expected, rel=1e-5)
    assert logs["loss"] - logs["reconstruction"] - logs["kl"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["mean_2", "h_2"])  # `step_networks` computes h_2 and a head's map in one convolution
def test_activity_regularizers_see_a_training_step(make_model, images, name):
    model = make_model(num_rungs=2)
    layer = model.encoder.get_layer(name)
    network = keras.Model(model.encoder.inputs, [layer.output, *model.encoder.outputs])
    seen, *_ = network([ops.convert_to_tensor(images), model.encoder_gates()])
    layer.activity_regularizer = keras.regularizers.L2(0.5)
    model.compile(run_eagerly=True)
    logs = model.train_on_batch(images, return_dict=True)
    assert logs["regularization"] == pytest.approx(0.5 * float(ops.sum(seen**2)) / len(images), rel=1e-4)


def test_without_regularizers_there_is_no_log_of_them(model, images):
    assert "regularization" not in model.test_on_batch(images, return_dict=True)
