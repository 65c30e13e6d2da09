import pickle

import numpy as np
import pytest

from keras_provlae.datasets import scenes

SCENE, DAYLIGHT, LEFT, MIDDLE, RIGHT, WAVES, WINDOWS, FRUIT = range(8)


@pytest.fixture(scope="module")
def truth():
    return scenes()


def changed(truth, column, scene=None):
    """Share of pixels `(64, 64)` that change when one factor does, over 200 images."""
    rng = np.random.default_rng(column)
    factors = truth.factors(rng.integers(len(truth), size=200))
    if scene is not None:
        factors[:, SCENE] = scene
    other = factors.copy()
    other[:, column] = (other[:, column] + rng.integers(1, truth.factor_sizes[column], size=200)) % truth.factor_sizes[
        column
    ]
    return (truth.images(factors) != truth.images(other)).any(axis=-1).mean(axis=0)


def test_the_grid(truth):
    assert (len(truth), truth.image_shape, truth.factor_sizes) == (49_152, (64, 64, 3), (3, 4, 4, 4, 4, 4, 4, 4))
    images, _ = truth.sample(500, seed=0)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1
    assert (truth.name, truth.source) == ("scenes", "procedural")


def test_abstract_factors_change_the_whole_picture(truth):
    assert changed(truth, DAYLIGHT).mean() > 0.95
    assert (changed(truth, SCENE).mean(axis=1) > 0).sum() > 40  # of 64 rows
    assert changed(truth, SCENE).mean() > 0.25


@pytest.mark.parametrize(("column", "columns"), [(LEFT, (0, 21)), (MIDDLE, (21, 43)), (RIGHT, (43, 64))])
def test_local_factors_change_their_own_place(truth, column, columns):
    everywhere = changed(truth, column)
    assert everywhere[:, columns[0] : columns[1]].mean() > 0.03
    everywhere[:, columns[0] : columns[1]] = 0
    assert not everywhere.any()


@pytest.mark.parametrize("scene", range(3))
def test_the_scene_decides_which_detail_can_be_seen(truth, scene):
    for detail in range(3):
        share = changed(truth, WAVES + detail, scene)
        assert (share.max() > 0.3) == (detail == scene)


def test_all_that_can_be_told_apart_differs(truth):
    """3 scenes x 4 daylights x 64 sizes x 4 values of the one detail that is there."""
    factors = truth.factors(np.arange(len(truth)))
    unseen = [[WINDOWS, FRUIT], [WAVES, FRUIT], [WAVES, WINDOWS]]
    one_each = factors[[not row[unseen[row[SCENE]]].any() for row in factors]]
    assert len(one_each) == len(truth) // 16
    assert len({image.tobytes() for image in (255 * truth.images(one_each)).astype("uint8")}) == len(one_each)


def test_a_pickle_is_the_recipe(truth):
    text = pickle.dumps(truth)
    assert len(text) < 3000
    factors = truth.factors(np.random.default_rng(0).integers(len(truth), size=20))
    np.testing.assert_array_equal(pickle.loads(text).images(factors), truth.images(factors))
