import sys

import imageio.v3 as imageio
import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_provlae.visualization import write_gif, write_png

FRAMES = [np.full((4, 6, 3), value, "uint8") for value in (0, 128, 255)]


def test_png_has_the_size_of_the_figure(tmp_path):
    path = write_png(Figure(figsize=(3, 2)), str(tmp_path / "new/figure.png"), dpi=50)
    assert imageio.imread(path).shape[:2] == (100, 150)


def test_gif_keeps_its_frames_and_starts_over(tmp_path):
    path = write_gif(FRAMES, tmp_path / "new/three.gif", fps=4)
    np.testing.assert_array_equal(imageio.imread(path), FRAMES)
    assert (imageio.immeta(path)["loop"], imageio.immeta(path)["duration"]) == (0, 250)
    figures = [Figure(figsize=(1, 1), facecolor=color) for color in ("black", "white")]
    assert imageio.imread(write_gif(figures, tmp_path / "two.gif", dpi=20)).mean(axis=(1, 2, 3)).tolist() == [0, 255]


def test_bad_frames_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one, all of the same size. Received: no frame"):
        write_gif([], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="all of the same size"):
        write_gif([FRAMES[0], FRAMES[1][:2]], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="`fps` must be positive"):
        write_gif(FRAMES, tmp_path / "a.gif", fps=0)
    assert not list(tmp_path.iterdir())


def test_without_imageio_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio.v3", None)
    with pytest.raises(ImportError, match=r'pip install "keras_provlae\[examples\]"'):
        write_gif(FRAMES, tmp_path / "a.gif")
