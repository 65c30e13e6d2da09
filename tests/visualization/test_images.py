import numpy as np
import pytest
from keras import ops
from matplotlib.figure import Figure

import keras_provlae as kp
from keras_provlae.visualization import reconstructions, rung_samples, rung_swaps, traversals
from keras_provlae.visualization.style import ink, rung_color
from tests.visualization.conftest import blocks, labels


def save(figure, tmp_path):
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_reconstructions_show_images_above_what_the_model_makes_of_them(model, images, tmp_path):
    figure = reconstructions(model, images[:5])
    (axes,) = figure.axes
    shown = blocks(axes)
    np.testing.assert_array_equal(shown[0], images[:5])
    np.testing.assert_array_equal(shown[1], model.reconstruct(images[:5]))
    assert labels(axes.get_yticklabels()) == ["image", "reconstruction"]
    assert axes.images[0].get_clim() == (0, 1)
    assert axes.images[0].get_cmap().name == "gray"
    assert (np.asarray(axes.images[0].get_array())[:2] == 1).all()  # white between images
    save(figure, tmp_path)


def test_rung_samples_are_one_grid_per_rung(model, images, tmp_path):
    figure = rung_samples(model, images[:1], n=9, seed=4)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"rung {rung}\n{code} from its prior" for rung, code in ((3, "z₃"), (2, "z₂"), (1, "z₁"))]
    for axes, rung in zip(figure.axes, (3, 2, 1), strict=True):
        expected = model.sample(9, rung=rung, around=images[:1], seed=4)
        np.testing.assert_array_equal(blocks(axes).reshape(9, 8, 8, 1), expected)
    assert [axes.title.get_color() for axes in figure.axes] == [ink(rung_color(3, rung)) for rung in (3, 2, 1)]
    save(figure, tmp_path)


def test_many_reconstructions_go_on_in_further_lines(model, images):
    (axes,) = reconstructions(model, images).axes
    shown = blocks(axes)
    columns = shown.shape[1]
    assert labels(axes.get_yticklabels()) == ["image", "reconstruction"] * -(-40 // columns)
    np.testing.assert_array_equal(shown[2], images[columns : 2 * columns])
    np.testing.assert_allclose(
        shown[3], ops.convert_to_numpy(model.reconstruct(images))[columns : 2 * columns], atol=1e-6
    )
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
    codes = ops.convert_to_numpy(model.encode(both)[0])
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
def test_images_that_are_not_square_or_gray(channels, tmp_path):
    model = kp.VLAE((8, 12, channels), num_rungs=1, latent_dim=2, channels=4, dense=8)
    image = np.random.default_rng(0).uniform(size=(1, 8, 12, channels)).astype("float32")
    for figure in (
        reconstructions(model, image),
        rung_samples(model, image, n=3),
        traversals(model),
        rung_swaps(model, image, image),
    ):
        save(figure, tmp_path)
    shown = blocks(reconstructions(model, image).axes[0], 8, 12)[0, 0]
    np.testing.assert_array_equal(shown, image[0, ..., : 3 if channels >= 3 else 1])


def test_locked_rungs_are_marked(make_model, images):
    (axes,) = rung_swaps(make_model(), images[:1], images[1:2]).axes
    assert labels(axes.get_xticklabels())[2:] == ["rung 3\nswapped", "rung 2\n(locked)", "rung 1\n(locked)"]
    titles = [axes.get_title() for axes in rung_samples(make_model(), images[:1], n=4).axes]
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
