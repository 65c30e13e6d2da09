import numpy as np
import pytest

from keras_provlae import metrics
from keras_provlae.visualization import animation, traversals, traversals_gif
from keras_provlae.visualization.style import ink, rung_color
from tests.visualization.conftest import Painter, blocks, labels, read_gif

NAMES = ["z₃[0]", "z₃[1]", "z₃[2]", "z₂[0]", "z₂[1]", "z₁[0]"]


def names(figure):
    return [name for axes in figure.axes for name in labels(axes.get_yticklabels())]


def notes(figure):
    """Texts to the right of the rows."""
    return [text.get_text() for axes in figure.axes for text in axes.texts[1:]]


def sweep(model, held, values):
    """The images of each latent at its values, row by row."""
    for latent, row in enumerate(values):
        codes = np.repeat(held, len(row), axis=0)
        codes[:, latent] = row
        yield model.decode(codes)


@pytest.fixture
def information():
    """Latent 1 holds the first factor, latents 0 and 4 the second, the others nothing."""
    factors = np.stack(np.meshgrid(range(4), range(4)), axis=-1).reshape(-1, 2)
    mean = np.zeros((16, 6))
    mean[:, 1] = factors[:, 0]
    mean[:, 0] = factors[:, 1]
    mean[:, 4] = 0.3 * factors[:, 1]
    mean[:, 5] = 0.03 * factors[:, 0]  # too little to hold it
    return metrics.mutual_information(mean, np.full((16, 6), -4.0), factors, factor_names=["hue", "shape"])


def test_one_latent_per_row_grouped_by_rung(model, images):
    figure = traversals(model, images[:1], steps=5, span=2.0)
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["rung 3", "rung 2", "rung 1"]
    assert names(figure) == NAMES
    for axes, rung in zip(figure.axes, (3, 2, 1), strict=True):
        color = rung_color(3, rung)
        assert axes.lines[0].get_color() == color
        assert {axes.texts[0].get_color(), *(text.get_color() for text in axes.get_yticklabels())} == {ink(color)}
    assert labels(figure.axes[-1].get_xticklabels()) == ["-2 sd", "2 sd"]
    shown = np.concatenate([blocks(axes) for axes in figure.axes])
    held = model.encode(images[:1])[0]
    for row, expected in zip(shown, sweep(model, held, [[-2, -1, 0, 1, 2]] * 6), strict=True):
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)


def test_without_an_image_the_others_are_held_at_0(model):
    shown = blocks(traversals(model, steps=2).axes[0])
    np.testing.assert_allclose(shown[0], next(sweep(model, np.zeros((1, 6), "float32"), [[-3, 3]])), atol=1e-6)


def test_quantiles_of_the_data(model, images):
    figure = traversals(model, images[:1], steps=3, images=images, quantiles=(0.1, 0.75))
    assert labels(figure.axes[-1].get_xticklabels()) == ["10%", "75%"]
    mean = model.encode(images)[0]
    low, high = np.quantile(mean, [0.1, 0.75], axis=0)
    shown = np.concatenate([blocks(axes) for axes in figure.axes])
    values = np.stack([low, (low + high) / 2, high], axis=1)
    for row, expected in zip(shown, sweep(model, mean[:1], values), strict=True):
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)


def test_images_give_the_kl_its_order_and_the_inactive_latents(images):
    painter = Painter((8, 8, 1), [3, 2])
    mean, _ = painter.encode(images)
    kl = 0.5 * (mean.astype("float64") ** 2 + np.exp(-1.0) - 1 + 1).mean(axis=0)
    figure = traversals(painter, images[:1], images=images)
    assert notes(figure) == [f"KL {value:.2f}" for value in kl]
    assert [name.endswith("*") for name in names(figure)] == [False, True, False, True, False]
    assert figure.texts[0].get_text().splitlines()[0].startswith("* not active")
    assert "KL in nats" in figure.texts[0].get_text()
    by_kl = traversals(painter, images[:1], images=images, order="kl")
    deepest = ["z₂[0]", "z₂[2]"] if kl[0] > kl[2] else ["z₂[2]", "z₂[0]"]
    assert names(by_kl) == [*deepest, "z₂[1] *", "z₁[1]", "z₁[0] *"]
    assert notes(by_kl)[:3] == [f"KL {value:.2f}" for value in sorted(kl[:3], reverse=True)]
    assert not any(name.endswith("*") for name in names(traversals(painter)))  # unknown


def test_rows_move_with_their_images_and_notes(model, images, information):
    figure = traversals(model, images[:1], steps=2, information=information, order="factor")
    ordered = ["z₃[1]", "z₃[0]", "z₃[2] *", "z₂[1]", "z₂[0] *", "z₁[0] *"]
    assert names(figure) == ordered
    assert notes(figure) == ["hue 1.00", "shape 1.00", "", "shape 0.66", "", ""]
    rows = list(sweep(model, model.encode(images[:1])[0], [[-3, 3]] * 6))
    shown = np.concatenate([blocks(axes) for axes in figure.axes])
    for row, latent in zip(shown, [1, 0, 2, 4, 3, 5], strict=True):
        np.testing.assert_allclose(row, rows[latent], rtol=1e-5, atol=1e-6)
    card = metrics.MetricCard(results={"mutual_information": information})
    assert names(traversals(model, information=card, order="factor")) == ordered


def test_locked_rungs_are_marked():
    figure = traversals(Painter((8, 8, 1), [1, 1, 1], unlocked=1))
    assert ["(locked)" in axes.texts[0].get_text() for axes in figure.axes] == [False, True, True]


def test_many_latents_are_split_into_two_columns():
    painter = Painter((8, 8, 1), [20, 20])
    figure = traversals(painter)
    left = [axes.get_position().x0 for axes in figure.axes]
    assert [len(axes.get_yticks()) for axes in figure.axes] == [20, 20]
    assert left[0] < 0.5 < left[1]
    assert len(traversals(Painter((8, 8, 1), [30])).axes) == 2  # one rung continues in the second


def test_every_frame_shows_every_latent_at_its_value(model, images, monkeypatch, tmp_path):
    frames = []

    def look(figure, dpi):
        *rungs, slider = figure.axes
        shown = [blocks(axes)[0, : len(axes.get_xticks())] for axes in rungs]
        frames.append((np.concatenate(shown), float(slider.lines[1].get_xdata()[0])))
        assert [labels(axes.get_yticklabels()) for axes in rungs] == [["rung 3"], ["rung 2"], ["rung 1"]]
        assert [name for axes in rungs for name in labels(axes.get_xticklabels())] == NAMES
        assert [text.get_text() for text in slider.texts] == ["5%", "95%"]
        return np.zeros((2, 2, 3), "uint8")

    monkeypatch.setattr(animation, "rendered", look)
    mean = model.encode(images)[0]
    traversals_gif(model, tmp_path / "a.gif", images[:1], steps=3, images=images, quantiles=(0.05, 0.95))
    low, high = np.quantile(mean, [0.05, 0.95], axis=0)
    rows = list(sweep(model, mean[:1], np.stack([low, (low + high) / 2, high], axis=1)))
    for step, (shown, dot) in enumerate(frames):
        np.testing.assert_allclose(shown, [row[step] for row in rows], atol=1e-5)
        assert dot == step / 2


def test_the_animation_runs_forward_and_back(model, images, tmp_path):
    path = traversals_gif(model, tmp_path / "new/latents.gif", images[:1], steps=4, fps=20, dpi=40)
    frames, info = read_gif(path)
    assert len(frames) == 6
    np.testing.assert_array_equal(frames[1], frames[5])
    np.testing.assert_array_equal(frames[2], frames[4])
    assert np.abs(frames[0].astype(int) - frames[3]).max() > 100  # the dot has moved
    assert (info["loop"], info["duration"]) == (0, 50)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 1}, "`steps` must be at least 2"),
        ({"span": 0.0}, "`span` must be positive"),
        ({"around": np.zeros((2, 8, 8, 1), "float32")}, "`around` must be one image"),
        ({"order": "size"}, "`order` must be one of rung, kl, factor. Received: 'size'"),
        ({"order": "kl"}, "need images of the data"),
        ({"order": "factor"}, "needs the result of `metrics.mutual_information`"),
        ({"quantiles": (0.1, 0.9)}, "need images of the data"),
        ({"quantiles": (0.9, 0.1), "images": np.zeros((2, 8, 8, 1), "float32")}, "0 <= low < high <= 1"),
        ({"quantiles": 0.9, "images": np.zeros((2, 8, 8, 1), "float32")}, "must be .low, high."),
        ({"images": [1, 2]}, "must be an array .n, height, width, channels.*Received: list. Of a ground truth"),
        ({"images": np.zeros((8, 8, 1), "float32")}, "Received: shape .8, 8, 1."),
        ({"model": "model.keras"}, "`model` must be a LadderVAE, such as ProgressiveVAE. Received: str"),
        ({"information": "mig"}, "`information` must be the result of `metrics.mutual_information`.*Received: str"),
    ],
)
def test_invalid_arguments_are_rejected(model, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        traversals(**{"model": model, **settings})


def test_information_of_another_model_is_rejected(images, information):
    with pytest.raises(ValueError, match="of this model, with 5 latents. Received: 6"):
        traversals(Painter((8, 8, 1), [3, 2]), information=information)
