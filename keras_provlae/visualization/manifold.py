"""Two-dimensional manifolds of rungs."""

from typing import Any

import keras
import numpy as np

from keras_provlae.visualization.grids import add_grid, geometry
from keras_provlae.visualization.model_images import check_model, check_sweep, decode_all, held_codes, locked_rungs
from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.style import TITLE_HEIGHT, WIDTH, code_name, ink, name_data, rung_color, text_width


@own_style()
def manifold(
    model: keras.Model,
    rung: int,
    around: Any = None,
    steps: int = 15,
    span: float = 2.0,
    seed: int | None = 0,
    data: Any = None,
) -> Picture:
    """Shows a grid of images over both latents of a rung (figure 10).

    Args:
        model: A `LadderVAE`.
        rung: Int 1 .. L. A rung with two latents.
        around: One image, `(1, height, width, channels)`, whose other rungs are held; `None` draws the other
            rungs from the prior for every image, as in the paper.
        steps: Int >= 2. Images per row and column.
        span: Float > 0. Both latents go from -span to span standard deviations of the prior.
        seed: Int or `None`. Seed of the draws.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.

    Returns:
        A figure with one axes. The first latent increases to the right, the second upwards.

    Raises:
        ValueError: If there is no such rung, it does not have two latents, or an argument is invalid.

    Source: Li et al. (2020), figure 10.
    """
    check_sweep(steps, span)
    check_model(model)
    columns = dict(model.rung_slices).get(rung)
    if columns is None:
        raise ValueError(f"`rung` must be 1 .. {model.num_rungs}. Received: rung={rung}.")
    if columns.stop - columns.start != 2:
        raise ValueError(
            f"A manifold needs a rung with two latents. Received: rung {rung} with {columns.stop - columns.start}. "
            "Build the model with `latent_dim=2`, or use `traversals`."
        )
    held = held_codes(model, around)
    codes = np.repeat(held, steps * steps, axis=0)
    if around is None:
        codes = np.random.default_rng(seed).standard_normal(codes.shape).astype("float32")
    values = np.linspace(-span, span, steps)
    first, second = np.meshgrid(values, values[::-1])
    codes[:, columns] = np.stack([first.ravel(), second.ravel()], axis=1)
    images = decode_all(model, codes)

    left, bottom = 0.6, 0.4
    how = geometry(images.shape, steps, WIDTH - left - 0.1)
    width, height = how.inches(steps, steps)
    top = 0.32 + (0 if data is None else TITLE_HEIGHT - 0.1)
    others = "the other rungs drawn from their priors" if around is None else "the other rungs held"
    title = f"rung {rung}{' (locked)' if rung in locked_rungs(model) else ''}; {others}"
    figure = Picture(figsize=(left + max(width, text_width([title])) + 0.1, top + height + bottom))
    axes = add_grid(figure, left, top, images, steps, how)
    axes.set_title(title, color=ink(rung_color(model, rung)), fontsize=9, pad=4, loc="left")
    xs, ys = how.column_centers(steps), how.row_centers(steps)
    axes.set_xticks([xs[0], xs[-1]], [f"{-span:g} sd", f"{span:g} sd"], fontsize=8)
    axes.set_yticks([ys[0], ys[-1]], [f"{span:g} sd", f"{-span:g} sd"], fontsize=8)
    axes.set_xlabel(f"{code_name(rung)}[0]", fontsize=9, labelpad=-8)
    axes.set_ylabel(f"{code_name(rung)}[1]", fontsize=9, labelpad=-14)
    return name_data(figure, data)
