import pickle

import numpy as np
import pytest

from keras_provlae.datasets import scenes

SCENE, DAYLIGHT, LEFT, MIDDLE, RIGHT, WAVES, WINDOWS, FRUIT = range(8)


@pytest.fixture(scope="module")
def truth():
    return scenes()


def changed(truth, column, scene=None):
    """Frequency `(64, 64)` of changed pixels when one factor changes, over 200 images."""
    rng, size = np.random.default_rng(column), truth.factor_sizes[column]
    factors = truth.factors(rng.integers(len(truth), size=200))
    if scene is not None:
        factors[:, SCENE] = scene
    other = factors.copy()
    other[:, column] = (other[:, column] + rng.integers(1, size, size=200)) % size
    return (truth.images(factors) != truth.images(other)).any(axis=-1).mean(axis=0)


def test_the_grid(truth):
    assert (len(truth), truth.image_shape, truth.factor_sizes) == (49_152, (64, 64, 3), (3, 4, 4, 4, 4, 4, 4, 4))
    images, _ = truth.sample(200, seed=0)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1
    assert (truth.name, truth.source) == ("scenes", "procedural")


def test_abstract_factors_change_the_whole_image(truth):
    assert changed(truth, DAYLIGHT).mean() > 0.95
    scene = changed(truth, SCENE)
    assert (scene.mean(axis=1) > 0).sum() > 40  # of 64 rows
    assert scene.mean() > 0.25


@pytest.mark.parametrize(("column", "columns"), [(LEFT, (0, 21)), (MIDDLE, (21, 43)), (RIGHT, (43, 64))])
def test_local_factors_change_their_own_strip(truth, column, columns):
    everywhere = changed(truth, column)
    assert everywhere[:, columns[0] : columns[1]].mean() > 0.03
    everywhere[:, columns[0] : columns[1]] = 0
    assert not everywhere.any()


@pytest.mark.parametrize("scene", range(3))
def test_the_scene_determines_the_visible_detail(truth, scene):
    for detail in range(3):
        share = changed(truth, WAVES + detail, scene)
        assert (share.max() > 0.3) == (detail == scene)


def test_all_visible_combinations_differ(truth):
    """In each strip: 3 scenes x 4 daylights x 4 sizes x 4 values of the visible detail."""
    combinations = np.array(list(np.ndindex(3, 4, 4, 4)))
    factors = combinations[:, [0, 1, 2, 2, 2, 3, 3, 3]]
    images = truth.images(factors)
    for columns in slice(0, 21), slice(21, 43), slice(43, 64):
        assert len({strip.tobytes() for strip in images[:, :, columns]}) == 192


def test_a_pickle_is_small(truth):
    text = pickle.dumps(truth)
    assert len(text) < 3000
    factors = truth.factors(np.random.default_rng(0).integers(len(truth), size=20))
    np.testing.assert_array_equal(pickle.loads(text).images(factors), truth.images(factors))
