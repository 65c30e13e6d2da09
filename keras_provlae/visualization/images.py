"""What a model makes of images: reconstructions, samples of one rung, traversals.

Every function takes a model and images and returns a `matplotlib.figure.Figure` that belongs to
no window and no global state: `figure.savefig("picture.png")`.
"""

from typing import Any

import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure

from keras_provlae.visualization.style import rung_color

_CELL = 0.5  # inches that one image takes
_PAD = 2  # pixels between images


def reconstructions(model: keras.Model, images: Any) -> Figure:
    """Images above what the model makes of them.

    Args:
        model: A `LadderVAE`.
        images: Float array `(n, height, width, channels)` in [0, 1]; one column each.

    Returns:
        A figure with one axes: the images in the first row, their reconstructions in the second.
    """
    images = ops.convert_to_numpy(images)
    pair = np.concatenate([images, ops.convert_to_numpy(model.reconstruct(images))])
    figure = Figure(figsize=(_CELL * len(images) + 1.1, 2 * _CELL + 0.2), layout="constrained")
    axes = _show_grid(figure.add_subplot(), pair, rows=2)
    _label_rows(axes, ["image", "reconstruction"], pair.shape[1])
    return figure


def rung_samples(model: keras.Model, around: Any, n: int = 64, seed: int | None = 0) -> Figure:
    """One grid per rung: its code drawn from the prior, the other rungs held (figure 6).

    Args:
        model: A `LadderVAE`.
        around: One image, `(1, height, width, channels)`, whose codes are held.
        n: Int >= 1. Images per rung.
        seed: Int or `None`. Seed of the draws.

    Returns:
        A figure with one axes per rung, the deepest on the left.

    Source: Li et al. (2020), figures 5 and 6.
    """
    rows = int(np.ceil(np.sqrt(n)))
    figure = Figure(figsize=(model.num_rungs * (_CELL * rows + 0.3), _CELL * rows + 0.6), layout="constrained")
    for axes, (rung, _) in zip(figure.subplots(1, model.num_rungs, squeeze=False)[0], model.rung_slices, strict=True):
        samples = ops.convert_to_numpy(model.sample(n, rung=rung, around=around, seed=seed))
        _show_grid(axes, samples, rows=rows)
        axes.set_title(f"rung {rung}: $z_{{{rung}}}$ drawn from its prior", color=rung_color(model, rung), fontsize=10)
    return figure


def traversals(model: keras.Model, around: Any = None, steps: int = 9, span: float = 3.0) -> Figure:
    """One row per latent: that latent swept over the prior, all the others held (figure 4).

    Args:
        model: A `LadderVAE`.
        around: One image, `(1, height, width, channels)`, whose codes are held; `None`
            holds them at 0, the prior's mean.
        steps: Int >= 2. Images per row.
        span: Float > 0. Each latent goes from -span to span standard deviations of the prior.

    Returns:
        A figure with one axes; rows are grouped by rung, the deepest on top.

    Source: Li et al. (2020), figures 4 and 7.
    """
    width = model.rung_slices[-1][1].stop
    held = np.zeros((1, width), "float32") if around is None else ops.convert_to_numpy(model.encode(around)[0])
    codes = np.repeat(held, width * steps, axis=0).reshape(width, steps, width)
    codes[np.arange(width), :, np.arange(width)] = np.linspace(-span, span, steps)
    images = ops.convert_to_numpy(model.decode(codes.reshape(-1, width)))
    figure = Figure(figsize=(_CELL * steps + 0.8, _CELL * width + 0.5), layout="constrained")
    axes = _show_grid(figure.add_subplot(), images, rows=width)
    rungs = [(rung, i) for rung, columns in model.rung_slices for i in range(columns.stop - columns.start)]
    labels = [f"$z_{{{rung}}}$[{i}]" for rung, i in rungs]
    _label_rows(axes, labels, images.shape[1], [rung_color(model, rung) for rung, _ in rungs])
    pixel_width = images.shape[2] + _PAD
    axes.set_xticks([_PAD + pixel_width * i + images.shape[2] / 2 for i in (0, (steps - 1) / 2, steps - 1)])
    axes.set_xticklabels([f"{-span:g} sd", "0", f"{span:g} sd"], fontsize=8)
    return figure


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
    columns = -(-n // rows)
    grid = np.ones((rows * (height + _PAD) + _PAD, columns * (width + _PAD) + _PAD, shown.shape[-1]))
    for index, image in enumerate(shown):
        top = _PAD + index // columns * (height + _PAD)
        left = _PAD + index % columns * (width + _PAD)
        grid[top : top + height, left : left + width] = image
    return grid


def _label_rows(axes, labels, height, colors=None):
    axes.set_yticks([_PAD + (height + _PAD) * row + height / 2 for row in range(len(labels))])
    axes.set_yticklabels(labels, fontsize=9)
    for text, color in zip(axes.get_yticklabels(), colors or [], strict=False):
        text.set_color(color)
