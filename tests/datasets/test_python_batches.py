"""Ground truths without TensorFlow: the same order and the same pixels as its streams."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp
from keras_provlae.datasets import dsprites, scenes, shapes3d
from keras_provlae.datasets.passes import shuffled


@pytest.fixture(scope="module")
def truth():
    """30 images whose pixels are the grid index / 29."""
    images = np.linspace(0, 1, 30, dtype="float32")[:, None, None] * np.ones((8, 8), "float32")
    factors = [[a, b] for a in range(3) for b in range(10)]
    return kp.datasets.GroundTruth.from_arrays(images, factors, ["a", "b"])


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        for part, of_other in zip(keras.tree.flatten(batch), keras.tree.flatten(other), strict=True):
            assert part.dtype == of_other.dtype
            np.testing.assert_array_equal(part, of_other)


@pytest.mark.parametrize(
    ("count", "seed", "epoch"), [(1, 0, 0), (7, 3, 2), (1001, 2**40 + 5, 1), (64, 2**63 - 1, 2**33)]
)
def test_an_order_is_tensorflows(count, seed, epoch):
    expected = tf.random.experimental.stateless_shuffle(
        tf.range(count, dtype="int64"), tf.constant([seed, epoch], "int64")
    )
    np.testing.assert_array_equal(shuffled(count, seed, epoch), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"seed": 1, "start_step": 6},
        {"shuffle": False, "with_factors": True},
        {"seed": 2**35, "with_factors": True, "subset": 17, "drop_remainder": True},
        {"seed": 3, "shard": (1, 2)},
    ],
)
def test_epochs_are_those_of_tf_dataset(truth, settings):
    batches, ds = (make(batch_size=4, **settings) for make in (truth.batches, truth.tf_dataset))
    for _ in range(3):
        assert_same(list(batches), list(ds.as_numpy_iterator()))


def test_an_endless_stream_is_that_of_tf_dataset(truth):
    batches, ds = (make(4, seed=5, start_step=3, repeat=True) for make in (truth.batches, truth.tf_dataset))
    assert batches.num_batches is None
    assert_same(list(itertools.islice(batches, 20)), list(ds.take(20).as_numpy_iterator()))
    with pytest.raises(TypeError, match="no end"):
        len(batches)


def test_bad_arguments_are_rejected_as_by_tf_dataset(truth):
    with pytest.raises(ValueError, match="`batch_size`"):
        truth.batches(0)
    with pytest.raises(ValueError, match="`subset` must be"):
        truth.batches(4, subset=[30])
    with pytest.raises(ValueError, match="needs at least one full batch"):
        truth.batches(31, drop_remainder=True)
    with pytest.raises(IndexError, match="must be in 0"):
        truth.batches(10)[3]


@pytest.mark.parametrize(("make", "tolerance"), [(dsprites, 0.0), (shapes3d, 1e-6), (scenes, 0.0)])
def test_numpy_draws_the_pixels_that_tensorflow_draws(make, tolerance):
    """dSprites and scenes are looked up; colors of 3DShapes are sums of three products."""
    truth = make() if make is scenes else make("procedural")
    factors = truth.factors(np.random.default_rng(0).integers(len(truth), size=64))
    for times in (1, 2):
        smaller = truth.downscale(times)
        drawn = smaller._render(factors.astype("int32"))
        assert drawn.dtype == np.float32
        np.testing.assert_allclose(drawn, smaller.images(factors), rtol=0, atol=max(tolerance, 1e-6 * (times - 1)))


def test_a_render_of_tensorflow_operations_stays_one(truth):
    own = kp.datasets.GroundTruth(
        {"a": range(2)}, (4, 4, 1), lambda f: tf.ones((tf.shape(f)[0], 4, 4, 1)), "own", "own"
    )
    for made in (own, own.downscale(2)):
        assert not made._in_numpy
        assert made.images([1]).max() == 1
    assert truth.downscale(2)._in_numpy


def test_fit_reads_one_epoch_after_another_in_order(truth, monkeypatch):
    """`steps_per_epoch` goes on in the endless stream; otherwise each epoch of `fit` is one of the stream."""
    model = kp.VLAE((8, 8, 1), num_rungs=1, latent_dim=2, channels=4, dense=8)
    model.compile(run_eagerly=True)
    seen = []
    monkeypatch.setattr(model, "train_step", lambda data: seen.append(data[0].numpy()) or {"loss": 0.0})
    model.fit(truth.batches(8, seed=0), epochs=2, verbose=0)
    ds = truth.tf_dataset(8, seed=0)
    assert_same(seen, [*ds.as_numpy_iterator(), *ds.as_numpy_iterator()])
    seen.clear()
    model.fit(truth.batches(8, seed=0, repeat=True), epochs=2, steps_per_epoch=3, verbose=0)
    assert_same(seen, list(truth.tf_dataset(8, seed=0, repeat=True).take(6).as_numpy_iterator()))
    with pytest.raises(ValueError, match="is infinite: pass `steps_per_epoch`"):
        model.fit(truth.batches(8, repeat=True))
