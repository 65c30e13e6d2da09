import itertools

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image, ImageSequence

import keras_provlae as kp


def blocks(axes, height=8, width=8, pad=2):
    """The images that an axes shows, cut out of its pixels: `(rows, columns, height, width, channels)`."""
    pixels = np.asarray(axes.images[0].get_array())
    rows, columns = (pixels.shape[0] - pad) // (height + pad), (pixels.shape[1] - pad) // (width + pad)
    grid = pixels[pad:, pad:].reshape(rows, height + pad, columns, width + pad, -1)
    return grid[:, :height, :, :width].swapaxes(1, 2)


def labels(ticks):
    return [text.get_text() for text in ticks]


def read_gif(path):
    """The frames, uint8 `(n, height, width, 3)`, and what the file says of them."""
    with Image.open(path) as image:
        return np.stack([np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]), image.info


def overlaps(figure):
    """Pairs of texts that cover one another, and texts that leave the figure, of those that are drawn."""
    drawn = {}

    def draw(text, renderer):
        if text.get_visible() and text.get_text():
            drawn[id(text)] = text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", draw)
        figure.draw_without_rendering()
        drawn.clear()  # the layout may have drawn texts where they are not now
        figure.draw_without_rendering()
    texts = [(text.get_text(), text.get_window_extent().padded(-1)) for text in drawn.values()]
    title, frame = figure._suptitle, figure.bbox
    if title is not None:
        over = [axes for axes in figure.axes if axes.get_window_extent().overlaps(title.get_window_extent().padded(-1))]
        assert not over, "the title covers axes"
    cut = [
        (text, "the edge")
        for text, box in texts
        if not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
    ]
    return cut + [(a, b) for (a, one), (b, other) in itertools.combinations(texts, 2) if one.overlaps(other)]


@pytest.fixture
def model(make_model):
    return make_model(kp.VLAE, latent_dim=(1, 2, 3))


class Painter:
    """What the figures ask of a model, without a network: an image is all of the first code's brightness."""

    def __init__(self, image_shape, widths):
        self.image_shape, self.num_rungs = image_shape, len(widths)
        stops = np.cumsum(widths)
        self.rung_slices = [
            (rung, slice(int(stop - width), int(stop)))
            for rung, stop, width in zip(range(len(widths), 0, -1), stops, widths, strict=True)
        ]

    def encode(self, images):
        mean = np.zeros((len(images), self.rung_slices[-1][1].stop), "float32")
        mean[:, ::2] = images.mean(axis=(1, 2, 3))[:, None] * 20  # every second latent is active
        return mean, np.full_like(mean, -1.0)

    def decode(self, codes):
        return np.ones((len(codes), *self.image_shape)) / (1 + np.exp(-codes[:, :1, None, None]))

    def reconstruct(self, images):
        return self.decode(self.encode(images)[0])

    def sample(self, n, rung, around, seed):
        return self.decode(np.random.default_rng(seed).normal(size=(n, 1)))

    def decoder_gates(self):
        return np.arange(self.num_rungs) <= self.num_rungs // 2
