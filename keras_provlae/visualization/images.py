"""Pictures of reconstructions, of samples of each rung, and of rungs swapped between images."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_provlae.visualization.grids import add_grid, columns_that_fit, geometry, label_rows
from keras_provlae.visualization.model_images import as_images, check_model, decode_all, locked_rungs
from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.style import TITLE_HEIGHT, WIDTH, code_name, ink, name_data, rung_color

LABEL_WIDTH = 1.1  # inches
HEADING_HEIGHT = 0.5


@own_style()
def reconstructions(model: keras.Model, images: Any, data: Any = None) -> Picture:
    """Shows images above their reconstructions.

    Args:
        model: A `LadderVAE`.
        images: Float array `(n, height, width, channels)` in [0, 1]; long rows are wrapped.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.

    Returns:
        A figure with one axes: the images in the first row, their reconstructions in the second, and so on.
    """
    check_model(model)
    images = as_images(images)
    reconstructed = ops.convert_to_numpy(model.reconstruct(images))
    columns = min(len(images), columns_that_fit(images.shape, WIDTH - LABEL_WIDTH, 0.5))
    starts = range(0, len(images), columns)
    rows = [_filled(some[start : start + columns], columns) for start in starts for some in (images, reconstructed)]
    how = geometry(images.shape, columns, WIDTH - LABEL_WIDTH)
    width, height = how.inches(len(rows), columns)
    top = 0.05 if data is None else TITLE_HEIGHT
    figure = Picture(figsize=(max(LABEL_WIDTH + width, 3.0), top + height + 0.05))
    axes = add_grid(figure, LABEL_WIDTH, top, np.concatenate(rows), len(rows), how)
    label_rows(axes, ["image", "reconstruction"] * len(starts), how)
    return name_data(figure, data)


def _filled(images, columns):
    """Pads a row of images with white ones."""
    return np.concatenate([images, np.ones((columns - len(images), *images.shape[1:]))])


@own_style()
def rung_samples(model: keras.Model, around: Any, n: int = 64, seed: int | None = 0, data: Any = None) -> Picture:
    """Shows a grid per rung: its code drawn from the prior, the other rungs held (figure 6).

    Args:
        model: A `LadderVAE`.
        around: One image, `(1, height, width, channels)`, whose codes are held.
        n: Int >= 1. Images per rung.
        seed: Int or `None`. Seed of the draws.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.

    Returns:
        A figure with one axes per rung, deepest first, up to four in a line. Titles mark locked rungs, whose codes do
        not reach the image.

    Source: Li et al. (2020), figures 5 and 6.
    """
    check_model(model)
    draws = {rung: model.sample(n, rung=rung, around=around, seed=seed) for rung, _ in model.rung_slices}
    panels = {rung: ops.convert_to_numpy(images) for rung, images in draws.items()}
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    across = len(panels) if len(panels) <= 3 else 2 if len(panels) == 4 else 4
    gap = 0.15
    how = geometry(model.image_shape, columns, (WIDTH - gap) / across - gap)
    width, height = how.inches(rows, columns)
    room = max(width, 1.5)  # for the titles
    top = 0.0 if data is None else TITLE_HEIGHT - 0.1
    lines = -(-len(panels) // across)
    figure = Picture(figsize=(gap + across * (room + gap), top + lines * (height + HEADING_HEIGHT) + 0.1))
    gates = ops.convert_to_numpy(model.decoder_gates())
    for number, ((rung, images), gate) in enumerate(zip(panels.items(), gates, strict=True)):
        line, column = divmod(number, across)
        left, upper = (
            gap + column * (room + gap) + (room - width) / 2,
            top + line * (height + HEADING_HEIGHT) + HEADING_HEIGHT,
        )
        axes = add_grid(figure, left, upper, images, rows, how)
        title = f"{code_name(rung)} from its prior" if gate == 1 else f"fading in, {gate:.2g}" if gate else "(locked)"
        axes.set_title(f"rung {rung}\n{title}", color=ink(rung_color(model, rung)), fontsize=9, pad=3)
    return name_data(figure, data)


@own_style()
def rung_swaps(model: keras.Model, images: Any, others: Any, data: Any = None) -> Picture:
    """Shows pairs of images that swap the code of one rung: what that rung encodes moves to the other image.

    Args:
        model: A `LadderVAE`.
        images: Float array `(n, height, width, channels)` in [0, 1].
        others: Float array like `images`: the partner of each image.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.

    Returns:
        A figure with one axes and two rows per pair, one for each image: the image, its reconstruction, then, for
        every rung from the deepest, the image with that rung's code of its partner.

    Raises:
        ValueError: If `images` and `others` differ in shape.

    Source: Li et al. (2020), section 4 (what each rung holds); Zhao et al. (2017) for swapping codes.
    """
    check_model(model)
    images, others = as_images(images), as_images(others, "others")
    if images.shape != others.shape:
        raise ValueError(
            "`others` must have a partner for each of `images`. "
            f"Received: images.shape={images.shape}, others.shape={others.shape}."
        )
    both = np.stack([images, others], axis=1).reshape(-1, *images.shape[1:])  # image, partner, image, partner
    codes = ops.convert_to_numpy(model.encode(both)[0])
    partners = codes.reshape(len(images), 2, -1)[:, ::-1].reshape(codes.shape)
    variants = [codes]
    for _, columns in model.rung_slices:
        swapped = codes.copy()
        swapped[:, columns] = partners[:, columns]
        variants.append(swapped)
    decoded = decode_all(model, np.stack(variants, axis=1).reshape(-1, codes.shape[1]))
    rows = [both[:, None], decoded.reshape(len(both), len(variants), *both.shape[1:])]
    shown = np.concatenate(rows, axis=1).reshape(-1, *both.shape[1:])

    how = geometry(images.shape, model.num_rungs + 2, WIDTH - 0.6, largest=0.8, column_pitch=0.62)
    width, height = how.inches(len(both), model.num_rungs + 2)
    top = HEADING_HEIGHT - 0.1 + (0 if data is None else TITLE_HEIGHT - 0.1)
    figure = Picture(figsize=(0.6 + width, top + height + 0.05))
    axes = add_grid(figure, 0.5, top, shown, len(both), how)
    label_rows(axes, [f"{letter}{pair}" for pair in _numbers(len(images)) for letter in "AB"], how)
    locked = locked_rungs(model)
    names = [f"rung {rung}" + ("\n(locked)" if rung in locked else "\nswapped") for rung, _ in model.rung_slices]
    axes.set_xticks(how.column_centers(model.num_rungs + 2), ["image", "recon-\nstructed", *names], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=2)
    for text, (rung, _) in zip(axes.get_xticklabels()[2:], model.rung_slices, strict=True):
        text.set_color(ink(rung_color(model, rung)))
    return name_data(figure, data)


def _numbers(pairs):
    return [""] if pairs == 1 else range(1, pairs + 1)
