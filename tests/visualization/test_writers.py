import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from keras_provlae.visualization import write_gif, write_png
from keras_provlae.visualization.style import PALETTE
from tests.visualization.conftest import read_gif

FRAMES = [np.full((4, 6, 3), value, "uint8") for value in (0, 128, 255)]


def test_png_has_the_size_of_the_figure(tmp_path):
    path = write_png(Figure(figsize=(3, 2)), str(tmp_path / "new/figure.png"), dpi=50)
    assert imread(path).shape[:2] == (100, 150)


def test_gif_keeps_its_frames_and_loops(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio.v3", None)  # matplotlib installs what is needed
    frames, info = read_gif(write_gif(FRAMES, tmp_path / "new/three.gif", fps=4))
    np.testing.assert_array_equal(frames, FRAMES)
    assert (info["loop"], info["duration"]) == (0, 250)
    figures = [Figure(figsize=(1, 1), facecolor=color) for color in ("black", "white")]
    frames, _ = read_gif(write_gif(figures, tmp_path / "two.gif", dpi=20))
    assert frames.mean(axis=(1, 2, 3)).tolist() == [0, 255]


def test_invalid_frames_and_paths_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="at least one, all of the same size. Received: no frame"):
        write_gif([], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="all of the same size"):
        write_gif([FRAMES[0], FRAMES[1][:2]], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="`fps` must be positive"):
        write_gif(FRAMES, tmp_path / "a.gif", fps=0)
    with pytest.raises(ValueError, match="`path` must end in .gif. Received: .*a.png"):
        write_gif(FRAMES, tmp_path / "a.png")
    with pytest.raises(ValueError, match="`path` must end in .png"):
        write_png(Figure(), tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_gif_keeps_the_colors_of_the_rungs(tmp_path):
    """In photographs with thousands of colors and labels of a few pixels."""
    frames = np.random.default_rng(0).integers(0, 256, (4, 60, 60, 3)).astype("uint8")
    frames[:, 30:] = 240 + frames[:, 30:] // 17  # nearly white: Pillow would merge it with white
    for row, color in enumerate(PALETTE):
        frames[:, row, 2:4] = 255
        frames[:, row, :2] = np.round(255 * np.array(to_rgb(color)))
    shown = read_gif(write_gif(frames, tmp_path / "photographs.gif"))[0]
    np.testing.assert_array_equal(shown[:, :8, :4], frames[:, :8, :4])
    assert np.abs(shown.astype(int) - frames).mean() < 25
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 256
