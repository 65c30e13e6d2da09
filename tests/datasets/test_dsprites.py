import pickle

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from keras_provlae.datasets.dsprites import twin


@pytest.fixture(scope="module")
def truth():
    return twin()


def test_the_grid_is_that_of_the_original(truth):
    assert (len(truth), truth.image_shape) == (737_280, (64, 64, 1))
    assert truth.factor_names == ("shape", "scale", "orientation", "x_position", "y_position")
    assert truth.factor_sizes == (3, 6, 40, 32, 32)
    assert truth.factors(1).tolist() == [0, 0, 0, 0, 1]
    assert (truth.name, truth.source) == ("dsprites", "procedural")


def test_tfds_has_the_same_grid(truth):
    import tensorflow_datasets as tfds

    features = tfds.builder("dsprites").info.features
    assert features["image"].shape == truth.image_shape
    assert tuple(features[f"label_{name}"].num_classes for name in truth.factor_names) == truth.factor_sizes


def outline(shape):
    """Corners of a fine polygon, at scale 1, y downward."""
    t = np.linspace(0, 2 * np.pi, 2_001)
    if shape == 0:
        return np.array([(9.6, 9.6), (-9.6, 9.6), (-9.6, -9.6), (9.6, -9.6)])
    if shape == 1:
        return np.stack([12.76 * np.cos(t), 7.22 * np.sin(t)], axis=1)
    heart = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([9.6 * np.sin(t) ** 3, -0.662 * heart - 1.439], axis=1)


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_a_pixel_is_white_if_its_center_is_inside(truth, shape):
    """Tests every pixel center against a rotated, scaled and shifted polygon with another library."""
    rng = np.random.default_rng(shape)
    centers = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5), axis=-1).reshape(-1, 2)
    factors = np.stack([np.full(20, shape), *(rng.integers(size, size=20) for size in (6, 40, 32, 32))], axis=1)
    wrong = 0
    for image, (_, scale, orientation, x, y) in zip(truth.images(factors), factors, strict=True):
        angle = -2 * np.pi * orientation / 39
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corners = (0.5 + 0.1 * scale) * outline(shape) @ turn + [16 + 32 * x / 31, 16 + 32 * y / 31]
        wrong += (image.ravel() != Outline(corners, closed=False).contains_points(centers)).sum()
    assert wrong <= 1


def test_pixels_are_0_or_1(truth):
    images = truth.images(truth.factors(np.random.default_rng(0).integers(len(truth), size=500)))
    assert images.dtype == np.float32
    assert set(np.unique(images)) == {0.0, 1.0}


def test_the_first_and_the_last_orientation_are_the_same(truth):
    factors = truth.factors(np.random.default_rng(0).integers(len(truth), size=200))
    factors[:, 2] = 0
    first = truth.images(factors)
    factors[:, 2] = 39
    np.testing.assert_array_equal(first, truth.images(factors))


def test_x_is_to_the_right_and_y_is_downward(truth):
    for factors, expected in (([1, 2, 0, 31, 0], (16, 48)), ([1, 2, 0, 0, 31], (48, 16))):
        row, column = np.argwhere(truth.images(factors)[..., 0]).mean(axis=0) + 0.5
        np.testing.assert_allclose((row, column), expected, atol=0.01)


def test_a_later_orientation_turns_counter_clockwise(truth):
    """Before a quarter turn, the long axis of the ellipse rises to the right."""
    row, column = np.argwhere(truth.images([1, 5, 5, 16, 16])[..., 0]).T
    assert np.cov(column, -row)[0, 1] > 5


def test_real_frames(shared, truth):
    frames = np.load(shared / "data/dsprites/dsprites_gif_frames.npy")
    factors = np.load(shared / "data/dsprites/dsprites_gif_latents.npy")
    wrong = truth.images(factors)[..., 0] != (frames > 0)
    assert len(frames) == 320
    assert wrong.sum() <= 66
    assert wrong.sum(axis=(1, 2)).max() <= 4


def test_a_pickle_is_small(truth):
    text = pickle.dumps(truth)
    assert len(text) < 3000
    factors = truth.factors(np.random.default_rng(0).integers(len(truth), size=20))
    np.testing.assert_array_equal(pickle.loads(text).images(factors), truth.images(factors))
