import numpy as np
import pytest

from keras_provlae.visualization import manifold
from tests.visualization.conftest import Painter, blocks, labels


@pytest.fixture
def model():
    return Painter((8, 8, 1), [2, 1, 2], unlocked=3)


def test_the_first_latent_increases_to_the_right_and_the_second_upwards(model, images):
    figure = manifold(model, 1, images[:1], steps=3, span=1.5)
    (axes,) = figure.axes
    shown = blocks(axes)
    held = model.encode(images[:1])[0]
    for row, second in enumerate((1.5, 0, -1.5)):
        codes = np.repeat(held, 3, axis=0)
        codes[:, 3], codes[:, 4] = [-1.5, 0, 1.5], second
        np.testing.assert_allclose(shown[row], model.decode(codes), rtol=1e-5, atol=1e-6)
    assert labels(axes.get_xticklabels()) == ["-1.5 sd", "1.5 sd"]
    assert labels(axes.get_yticklabels()) == ["1.5 sd", "-1.5 sd"]
    assert axes.get_title(loc="left") == "rung 1; the other rungs held"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("z₁[0]", "z₁[1]")


def test_other_rungs_are_drawn_for_every_image(model):
    shown = [blocks(manifold(model, 3, steps=4, seed=seed).axes[0]) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(shown[0], shown[1])
    assert not np.allclose(shown[0], shown[2])
    codes = np.random.default_rng(0).standard_normal((16, 5)).astype("float32")
    codes[0, :2] = [-2, 2]
    np.testing.assert_allclose(shown[0][0, 0], model.decode(codes[:1])[0], rtol=1e-5, atol=1e-6)


def test_a_locked_rung_is_marked():
    (axes,) = manifold(Painter((8, 8, 1), [2, 2], unlocked=1), 1, steps=2).axes
    assert axes.get_title(loc="left") == "rung 1 (locked); the other rungs drawn from their priors"


def test_invalid_arguments_are_rejected(model):
    with pytest.raises(ValueError, match="needs a rung with two latents. Received: rung 2 with 1. Build"):
        manifold(model, 2)
    with pytest.raises(ValueError, match="`rung` must be 1 .. 3. Received: rung=4"):
        manifold(model, 4)
    with pytest.raises(ValueError, match="`steps` must be at least 2"):
        manifold(model, 1, steps=1)
    with pytest.raises(ValueError, match="`span` must be positive"):
        manifold(model, 1, span=-1.0)
