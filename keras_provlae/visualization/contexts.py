"""Pictures of what one latent says of a factor in several contexts of the other factors."""

from typing import Any

import keras
import numpy as np

from keras_provlae.checks import check_count
from keras_provlae.metrics.contexts import check_grid, context_designs
from keras_provlae.metrics.encoding import encode_all
from keras_provlae.visualization.model_images import check_model
from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.style import WIDTH, ink, latent_labels, name_data

MOST_VALUES = 10  # columns
LARGEST = 1.1  # inches of an image


@own_style()
def context_sweeps(
    model: keras.Model,
    ground_truth: Any,
    factor: str,
    latent: int,
    num_contexts: int = 3,
    seed: int | None = 0,
    data: Any = None,
) -> Picture:
    """Shows one factor swept in several contexts, with the posterior mean of one latent above every image.

    A latent that means the same everywhere rises, or falls, along every row; that of a flipped code rises in one
    context and falls in another. `metrics.context_effects` measures it.

    Args:
        model: A `LadderVAE`.
        ground_truth: A `datasets.GroundTruth`.
        factor: Name of the factor, whose values are the columns (at most 10 of them, spread evenly).
        latent: Int >= 0. Column of the codes.
        num_contexts: Int >= 1. Rows: random values of all the other factors.
        seed: Int or `None`. Seed of the contexts.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.

    Returns:
        A figure with one axes per image, titled by the latent's mean.

    Raises:
        TypeError, ValueError: If the model, the data or a number is invalid, or there is no such factor or latent.
    """
    check_model(model)
    sizes, names = check_grid(ground_truth)
    check_count("num_contexts", num_contexts)
    check_count("latent", latent, least=0)
    if factor not in names:
        raise ValueError(f"`factor` must be one of {', '.join(names)}. Received: {factor!r}.")
    if latent >= model.rung_slices[-1][1].stop:
        raise ValueError(f"`latent` must be below {model.rung_slices[-1][1].stop}. Received: latent={latent}.")
    number = names.index(factor)
    design = context_designs(sizes, max(num_contexts, 2) * sum(sizes), seed)[number][:num_contexts]
    values = np.unique(np.linspace(0, sizes[number] - 1, min(sizes[number], MOST_VALUES)).round().astype(int))
    rows = design[:, values]
    images = ground_truth.images(rows.reshape(-1, len(sizes)))
    means = encode_all(model, images)[0][:, latent]
    count = model.rung_slices[-1][1].stop
    latents, colors = latent_labels(model.rung_slices, count, getattr(model, "latent_names", None))
    height, width = images.shape[1:3]
    side = min(WIDTH / len(values), LARGEST)
    figsize = (max(side * len(values), 3.0), len(rows) * (side * height / width + 0.2) + 0.7)
    figure = Picture(figsize=figsize, layout="constrained")
    grid = figure.subplots(len(rows), len(values), squeeze=False)
    for axes, image, mean in zip(grid.flat, images, means, strict=True):
        axes.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1, origin="upper")
        axes.set_title(f"{mean:+.2f}", fontsize=7, pad=2, color=ink(colors[latent]))
        axes.set_axis_off()
    figure.supxlabel(f"{factor}; above: {latents[latent]}", fontsize=9)
    return name_data(figure, data)
