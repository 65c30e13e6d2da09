import matplotlib
import numpy as np
import pytest
from keras import ops
from matplotlib.figure import Figure

import keras_provlae as kp
from keras_provlae.visualization import reconstructions, rung_samples, traversals

PAD = 2


def blocks(axes, height=8, width=8):
    """The images that an axes shows, cut out of its pixels: `(rows, columns, height, width, channels)`."""
    pixels = np.asarray(axes.images[0].get_array())
    rows, columns = (pixels.shape[0] - PAD) // (height + PAD), (pixels.shape[1] - PAD) // (width + PAD)
    grid = pixels[PAD:, PAD:].reshape(rows, height + PAD, columns, width + PAD, -1)
    return grid[:, :height, :, :width].swapaxes(1, 2)


def save(figure, tmp_path):
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.fixture
def model(make_model):
    return make_model(kp.VLAE, latent_dim=(1, 2, 3))


def test_reconstructions_show_images_above_what_the_model_makes_of_them(model, images, tmp_path):
    figure = reconstructions(model, images[:5])
    (axes,) = figure.axes
    shown = blocks(axes)
    np.testing.assert_array_equal(shown[0], images[:5])
    np.testing.assert_array_equal(shown[1], model.reconstruct(images[:5]))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["image", "reconstruction"]
    save(figure, tmp_path)


def test_rung_samples_are_one_grid_per_rung(model, images, tmp_path):
    figure = rung_samples(model, images[:1], n=9, seed=4)
    assert [axes.get_title()[:6] for axes in figure.axes] == ["rung 3", "rung 2", "rung 1"]
    for axes, rung in zip(figure.axes, (3, 2, 1), strict=True):
        expected = model.sample(9, rung=rung, around=images[:1], seed=4)
        np.testing.assert_array_equal(blocks(axes).reshape(9, 8, 8, 1), expected)
    assert len({axes.title.get_color() for axes in figure.axes}) == 3
    save(figure, tmp_path)


def test_traversals_sweep_one_latent_per_row(model, images, tmp_path):
    figure = traversals(model, images[:1], steps=5, span=2.0)
    (axes,) = figure.axes
    held = ops.convert_to_numpy(model.encode(images[:1])[0])[0]
    shown = blocks(axes)
    assert shown.shape[:2] == (6, 5)
    for latent in range(6):
        codes = np.repeat(held[None], 5, axis=0)
        codes[:, latent] = [-2, -1, 0, 1, 2]
        np.testing.assert_allclose(shown[latent], model.decode(codes), rtol=1e-5, atol=1e-6)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["$z_{3}$[0]", "$z_{3}$[1]", "$z_{3}$[2]", "$z_{2}$[0]", "$z_{2}$[1]", "$z_{1}$[0]"]
    save(figure, tmp_path)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_that_are_not_square_or_gray(channels, tmp_path):
    model = kp.VLAE((8, 12, channels), num_rungs=1, latent_dim=2, channels=4, dense=8)
    image = np.random.default_rng(0).uniform(size=(1, 8, 12, channels)).astype("float32")
    for figure in reconstructions(model, image), rung_samples(model, image, n=3), traversals(model):
        save(figure, tmp_path)
    shown = blocks(reconstructions(model, image).axes[0], 8, 12)[0, 0]
    np.testing.assert_array_equal(shown, image[0, ..., : 3 if channels >= 3 else 1])


def test_locked_rungs_are_marked(make_model, images):
    titles = [axes.get_title() for axes in rung_samples(make_model(), images[:1], n=4).axes]
    assert [("(locked)" in title) for title in titles] == [False, True, True]


@pytest.mark.parametrize("settings", [{"steps": 1}, {"around": np.zeros((2, 8, 8, 1), "float32")}])
def test_bad_traversals_are_refused(model, settings):
    with pytest.raises(ValueError, match="`steps` must be at least 2 and `around` one image"):
        traversals(model, **settings)


def test_no_global_state_of_matplotlib_is_touched(model, images):
    before = dict(matplotlib.rcParams)
    reconstructions(model, images[:2])
    traversals(model)
    assert dict(matplotlib.rcParams) == before


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
