"""What a model makes of images: reconstructions, samples of one rung, traversals.

Every function takes a model and images and returns a `matplotlib.figure.Figure` that belongs to
no window and no global state: `figure.savefig("picture.png")`. Images of one or two channels are
shown by their first, in gray; of three or more by their first three, as red, green and blue.
"""

from typing import Any

import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure

from keras_provlae.visualization.style import name_data, rung_color


def reconstructions(model: keras.Model, images: Any, data: Any = None) -> Figure:
    """Images above what the model makes of them.

    Args:
        model: A `LadderVAE`.
        images: Float array `(n, height, width, channels)` in [0, 1]; one column each.
        data: What the images are, for the title: a text, or the `GroundTruth` itself; `None` is no title.

    Returns:
        A figure with one axes: the images in the first row, their reconstructions in the second.
    """
    images = ops.convert_to_numpy(images)
    pair = np.concatenate([images, ops.convert_to_numpy(model.reconstruct(images))])
    width, height = _cell(images)
    figure = Figure(figsize=(max(width * len(images) + 1.4, 3.0), 2 * height + 0.2), layout="compressed")
    axes = _show_grid(figure.add_subplot(), pair, rows=2)
    _label_rows(axes, ["image", "reconstruction"], pair)
    return name_data(figure, data)


def rung_samples(model: keras.Model, around: Any, n: int = 64, seed: int | None = 0, data: Any = None) -> Figure:
    """One grid per rung: its code drawn from the prior, the other rungs held (figure 6).

    Args:
        model: A `LadderVAE`.
        around: One image, `(1, height, width, channels)`, whose codes are held.
        n: Int >= 1. Images per rung.
        seed: Int or `None`. Seed of the draws.
        data: What the images are, for the title: a text, or the `GroundTruth` itself; `None` is no title.

    Returns:
        A figure with one axes per rung, the deepest on the left. The title of a rung that is
        still locked says so: its code does not reach the image.

    Source: Li et al. (2020), figures 5 and 6.
    """
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    width, height = _cell(around)
    panel = (max(width * columns + 0.3, 1.3), height * rows + 0.8)
    figure = Figure(figsize=(panel[0] * model.num_rungs, panel[1]), layout="compressed")
    gates = ops.convert_to_numpy(model.decoder_gates())
    panels = figure.subplots(1, model.num_rungs, squeeze=False)[0]
    for axes, gate, (rung, _) in zip(panels, gates, model.rung_slices, strict=True):
        samples = ops.convert_to_numpy(model.sample(n, rung=rung, around=around, seed=seed))
        _show_grid(axes, samples, rows=rows)
        title = f"rung {rung}\n$z_{{{rung}}}$ from its prior" if gate > 0 else f"rung {rung}\n(locked)"
        axes.set_title(title, color=rung_color(model, rung), fontsize=10)
    return name_data(figure, data)


def traversals(model: keras.Model, around: Any = None, steps: int = 9, span: float = 3.0, data: Any = None) -> Figure:
    """One row per latent: that latent swept over the prior, all the others held (figure 4).

    Args:
        model: A `LadderVAE`.
        around: One image, `(1, height, width, channels)`, whose codes are held; `None`
            holds them at 0, the prior's mean.
        steps: Int >= 2. Images per row.
        span: Float > 0. Each latent goes from -span to span standard deviations of the prior.
        data: What the images are, for the title: a text, or the `GroundTruth` itself; `None` is no title.

    Returns:
        A figure with one axes; rows are grouped by rung, the deepest on top.

    Raises:
        ValueError: If `steps` is below 2 or `around` is not one image.

    Source: Li et al. (2020), figures 4 and 7.
    """
    width = model.rung_slices[-1][1].stop
    held = np.zeros((1, width), "float32") if around is None else ops.convert_to_numpy(model.encode(around)[0])
    if steps < 2 or len(held) != 1:
        raise ValueError(
            f"`steps` must be at least 2 and `around` one image. Received: {steps} and {len(held)} images."
        )
    codes = np.repeat(held, width * steps, axis=0).reshape(width, steps, width)
    codes[np.arange(width), :, np.arange(width)] = np.linspace(-span, span, steps)
    images = ops.convert_to_numpy(model.decode(codes.reshape(-1, width)))
    cell_width, cell_height = _cell(images)
    figure = Figure(figsize=(cell_width * steps + 0.9, cell_height * width + 0.5), layout="compressed")
    axes = _show_grid(figure.add_subplot(), images, rows=width)
    rungs = [(rung, i) for rung, columns in model.rung_slices for i in range(columns.stop - columns.start)]
    labels = [f"$z_{{{rung}}}$[{i}]" for rung, i in rungs]
    _label_rows(axes, labels, images, [rung_color(model, rung) for rung, _ in rungs])
    pad, pixels = _pad(images), images.shape[2]
    axes.set_xticks([pad + (pixels + pad) * i + pixels / 2 for i in (0, steps - 1)])
    axes.set_xticklabels([f"{-span:g} sd", f"{span:g} sd"], fontsize=8)
    return name_data(figure, data)


def _cell(images):
    """Width and height in inches that one image takes: half an inch or, for large images, more."""
    height, width = images.shape[1:3]
    side = np.clip(max(height, width) / 64, 0.5, 1.5)
    return side * width / max(height, width), max(side * height / max(height, width), 0.2)


def _pad(images):
    """Pixels between images, enough to be seen when large images are drawn small."""
    return max(2, max(images.shape[1:3]) // 14)


def _show_grid(axes, images, rows):
    """Draws images row by row on one axes, in pixels of the images."""
    axes.imshow(_grid(images, rows), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return axes


def _grid(images, rows):
    """`(n, height, width, channels)` in one array, white between and where images run out."""
    n, height, width, channels = images.shape
    shown = images[..., :3] if channels >= 3 else images[..., :1]
    columns, pad = -(-n // rows), _pad(images)
    grid = np.ones((rows * (height + pad) + pad, columns * (width + pad) + pad, shown.shape[-1]))
    for index, image in enumerate(shown):
        top = pad + index // columns * (height + pad)
        left = pad + index % columns * (width + pad)
        grid[top : top + height, left : left + width] = image
    return grid


def _label_rows(axes, labels, images, colors=None):
    pad, height = _pad(images), images.shape[1]
    axes.set_yticks([pad + (height + pad) * row + height / 2 for row in range(len(labels))])
    axes.set_yticklabels(labels, fontsize=9)
    for text, color in zip(axes.get_yticklabels(), colors or [], strict=False):
        text.set_color(color)
