import itertools

import numpy as np
import pytest
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image, ImageSequence


def blocks(axes, height=8, width=8, pad=2):
    """The images that an axes shows, cut out of its pixels: `(rows, columns, height, width, channels)`."""
    pixels = np.asarray(axes.images[0].get_array())
    rows, columns = (pixels.shape[0] - pad) // (height + pad), (pixels.shape[1] - pad) // (width + pad)
    grid = pixels[pad:, pad:].reshape(rows, height + pad, columns, width + pad, -1)
    return grid[:, :height, :, :width].swapaxes(1, 2)


def labels(ticks):
    return [text.get_text() for text in ticks]


def read_gif(path):
    """The frames, uint8 `(n, height, width, 3)`, and the metadata of the file."""
    with Image.open(path) as image:
        return np.stack([np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]), image.info


def overlaps(figure):
    """Pairs of drawn texts that overlap, and texts that leave the figure."""
    drawn = {}

    def draw(text, renderer):
        if text.get_visible() and text.get_text():
            drawn[id(text)] = text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", draw)
        patch.setattr(AxesImage, "draw", lambda self, renderer: None)  # only texts matter, and images take long
        figure.draw_without_rendering()
        if figure.get_layout_engine():
            drawn.clear()  # the layout may have moved texts after they were drawn
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


class Painter:
    """A ladder model without a network: 64 pixels, repeated, are the sigmoid of a random linear map of the codes.

    Args:
        image_shape: `(height, width, channels)`.
        widths: Latents of each rung, deepest first.
        unlocked: Number of unlocked rungs; `None` is half of them.
        idle: Whether every second latent ignores the image.
    """

    def __init__(self, image_shape, widths, unlocked=None, idle=True):
        self.image_shape, self.num_rungs = image_shape, len(widths)
        self.unlocked = self.num_rungs // 2 + 1 if unlocked is None else unlocked
        stops = [int(stop) for stop in np.cumsum(widths)]
        self.rung_slices = [
            (rung, slice(stop - width, stop))
            for rung, stop, width in zip(range(len(widths), 0, -1), stops, widths, strict=True)
        ]
        rng = np.random.default_rng(0)
        self.encoding = rng.uniform(0, 0.5, (64, stops[-1])).astype("float32")
        self.encoding[:, 1::2] *= not idle
        self.decoding = rng.normal(size=(stops[-1], 64)).astype("float32")

    def encode(self, images):
        mean = images.reshape(len(images), -1)[:, :64] @ self.encoding
        return mean, np.full_like(mean, -1.0)

    def decode(self, codes):
        pixels = 0.5 + 0.5 * np.tanh(0.5 * codes @ self.decoding)
        return pixels[:, np.arange(np.prod(self.image_shape)) % 64].reshape(-1, *self.image_shape)

    def reconstruct(self, images):
        return self.decode(self.encode(images)[0])

    def sample(self, n, rung, around, seed):
        codes = np.repeat(self.encode(around)[0], n, axis=0)
        drawn = np.random.default_rng(seed).normal(size=codes.shape)
        columns = dict(self.rung_slices)[rung]
        codes[:, columns] = drawn[:, columns]
        return self.decode(codes)

    def decoder_gates(self):
        return np.arange(self.num_rungs) < self.unlocked


@pytest.fixture(scope="session")
def model():
    """Three unlocked rungs of 3, 2 and 1 latents, all of them active."""
    return Painter((8, 8, 1), [3, 2, 1], unlocked=3, idle=False)
