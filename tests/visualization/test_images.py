import numpy as np
import pytest
from keras import ops

from keras_provlae.visualization import manifold, reconstructions, rung_samples, rung_swaps, traversals
from keras_provlae.visualization.style import ink, rung_color
from tests.visualization.conftest import Painter, blocks, labels


def test_reconstructions_are_below_their_images(model, images):
    figure = reconstructions(model, images[:5])
    (axes,) = figure.axes
    shown = blocks(axes)
    np.testing.assert_array_equal(shown[0], images[:5])
    np.testing.assert_array_equal(shown[1], model.reconstruct(images[:5]))
    assert labels(axes.get_yticklabels()) == ["image", "reconstruction"]
    assert axes.images[0].get_clim() == (0, 1)
    assert axes.images[0].get_cmap().name == "gray"
    assert (np.asarray(axes.images[0].get_array())[:2] == 1).all()  # white between images


def test_rung_samples_have_one_grid_per_rung(model, images):
    figure = rung_samples(model, images[:1], n=9, seed=4)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"rung {rung}\n{code} from its prior" for rung, code in ((3, "z₃"), (2, "z₂"), (1, "z₁"))]
    for axes, rung in zip(figure.axes, (3, 2, 1), strict=True):
        expected = model.sample(9, rung=rung, around=images[:1], seed=4)
        np.testing.assert_array_equal(blocks(axes).reshape(9, 8, 8, 1), expected)
    assert [axes.title.get_color() for axes in figure.axes] == [ink(rung_color(3, rung)) for rung in (3, 2, 1)]


def test_long_rows_of_reconstructions_are_wrapped(model, images):
    (axes,) = reconstructions(model, images).axes
    shown = blocks(axes)
    columns = shown.shape[1]
    assert labels(axes.get_yticklabels()) == ["image", "reconstruction"] * -(-40 // columns)
    np.testing.assert_array_equal(shown[2], images[columns : 2 * columns])
    np.testing.assert_allclose(shown[3], model.reconstruct(images)[columns : 2 * columns], atol=1e-6)
    assert (shown[-1, 40 % columns - columns :] == 1).all()  # the last line is not full


def test_swaps_exchange_one_rung(model, images):
    figure = rung_swaps(model, images[:2], images[2:4], data="blobs")
    (axes,) = figure.axes
    shown = blocks(axes)
    assert shown.shape[:2] == (4, 5)
    assert labels(axes.get_yticklabels()) == ["A1", "B1", "A2", "B2"]
    headings = ["image", "recon-\nstructed", "rung 3\nswapped", "rung 2\nswapped", "rung 1\nswapped"]
    assert labels(axes.get_xticklabels()) == headings
    both = images[[0, 2, 1, 3]]
    codes = model.encode(both)[0]
    np.testing.assert_array_equal(shown[:, 0], both)
    np.testing.assert_allclose(shown[:, 1], model.decode(codes), atol=1e-6)
    for column, (_, columns) in enumerate(model.rung_slices, start=2):
        for row, partner in enumerate((1, 0, 3, 2)):
            swapped = codes[[row]]
            swapped[:, columns] = codes[partner, columns]
            np.testing.assert_allclose(shown[row, column], model.decode(swapped)[0], atol=1e-6)
    with pytest.raises(ValueError, match="a partner for each"):
        rung_swaps(model, images[:2], images[:3])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_that_are_not_square_or_gray(channels):
    model = Painter((8, 12, channels), [2])
    image = np.random.default_rng(0).uniform(size=(1, 8, 12, channels)).astype("float32")
    kept = slice(3 if channels >= 3 else 1)
    for figure in reconstructions(model, image), rung_swaps(model, image, image):
        np.testing.assert_array_equal(blocks(figure.axes[0], 8, 12, 2)[0, 0], image[0, ..., kept])
    for figure in rung_samples(model, image, n=3), traversals(model):
        assert blocks(figure.axes[0], 8, 12).shape[2:] == (8, 12, 3 if channels >= 3 else 1)


def test_figures_of_a_real_model(growing_model, eight):
    """Rungs of 3, 2 and 1 latents: one is grown, one half faded in, one locked."""
    model, around = growing_model, eight[:1]
    held = ops.convert_to_numpy(model.encode(around)[0])
    codes = np.repeat(held, 3, axis=0)
    codes[:, 3] = [-3, 0, 3]
    figure = traversals(model, around, steps=3, images=eight)
    np.testing.assert_allclose(blocks(figure.axes[1])[0], model.decode(codes), atol=1e-5)
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["rung 3", "rung 2", "rung 1\n(locked)"]
    samples = rung_samples(model, around, n=4, seed=5).axes
    for axes, rung in zip(samples, (3, 2, 1), strict=True):
        shown = blocks(axes).reshape(4, 8, 8, 1)
        np.testing.assert_allclose(shown, model.sample(4, rung=rung, around=around, seed=5), atol=1e-5)
    assert [axes.get_title().split("\n")[1] for axes in samples] == ["z₃ from its prior", "fading in, 0.5", "(locked)"]
    swaps = blocks(rung_swaps(model, around, eight[1:2]).axes[0])
    np.testing.assert_allclose(swaps[0, 1], model.reconstruct(around)[0], atol=1e-5)
    assert blocks(reconstructions(model, eight).axes[0]).shape[:2] == (2, 8)
    assert blocks(manifold(model, 2, around, steps=2).axes[0]).shape[:2] == (2, 2)


def test_locked_rungs_are_marked(images):
    model = Painter((8, 8, 1), [2, 2, 2], unlocked=1)
    (axes,) = rung_swaps(model, images[:1], images[1:2]).axes
    assert labels(axes.get_xticklabels())[2:] == ["rung 3\nswapped", "rung 2\n(locked)", "rung 1\n(locked)"]
    titles = [axes.get_title() for axes in rung_samples(model, images[:1], n=4).axes]
    assert [("(locked)" in title) for title in titles] == [False, True, True]


def test_pictures_name_their_data(model, images):
    class Rooms:
        def __str__(self):
            return "rooms procedural"

    for figure in (
        reconstructions(model, images[:3], data=Rooms()),
        rung_samples(model, images[:1], n=4, data=Rooms()),
        traversals(model, images[:1], data=Rooms()),
    ):
        assert figure.get_suptitle() == "rooms procedural"
    assert reconstructions(model, images[:3]).get_suptitle() == ""
