"""The report: what was trained, what it learned, and what to be wary of, in one file."""

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_provlae import metrics, visualization
from keras_provlae.checks import check_count, check_seed
from keras_provlae.folders import check_path, check_writable, replace_text
from keras_provlae.report import sections as written
from keras_provlae.report.measurements import measure
from keras_provlae.report.model_warnings import model_warnings
from keras_provlae.report.page import page, picture, warnings
from keras_provlae.visualization.history import read_history, rungs_of
from keras_provlae.visualization.model_images import check_model
from keras_provlae.visualization.snapshot import as_snapshots


def write_report(
    model: keras.Model,
    data: Any,
    history: Any = None,
    path: str | os.PathLike = "report.html",
    snapshots: Any = None,
    card: metrics.MetricCard | None = None,
    data_name: str | None = None,
    factor_names: Sequence[str] | None = None,
    facts: Mapping[str, Any] | None = None,
    num_images: int = 2000,
    draws: int = 10_000,
    seed: int | None = 0,
) -> Path:
    """Writes ONE html file about a trained model, with its pictures inside, that opens without a network.

    It says what was trained and shows the curves, the growth timeline, a table of the rungs, traversals, samples, swaps
    and reconstructions; with known factors also heat-maps, responses and the metric card. It warns in words of a
    rung that carries less than 0.1 nat, latents that are never used, KL that carries no information, I(x; z) at
    its ceiling, rungs that are still locked, fade-ins that never finished, a loss that is not finite or was still
    falling by a hundredth, a model that was never trained, and of fewer than 100 images.

    Args:
        model: A `LadderVAE`.
        data: A ground truth, or a pair `(images, factors)`, or images alone: an array or a data set of batches.
        history: What `fit` returned, its dict, or the path of the file that `CSVLogger` wrote; `None` leaves the curves
            out.
        path: Where the file goes; its folder is made, a file that is there is replaced.
        snapshots: `callbacks.TraversalSnapshots.snapshots`, or its folder; `None` shows the model as it is alone.
        card: What `metrics.evaluate` returned. `None` computes one of the held images, with the scores
            that take seconds.
        data_name: What the images are, a text or the `GroundTruth` itself; `None` asks the ground truth.
        factor_names: Names of the factors; `None` asks the ground truth.
        facts: {name: value} to add to what was trained: the seed of the training, the command.
        num_images: Int >= 2. Images that are held to measure and draw: random ones, or the first of a data set.
        draws: Int >= 2. Draws of (x, z) for I(x; z_l).
        seed: Int or `None`. Seed of everything that is drawn for the report.

    Returns:
        The path.

    Raises:
        TypeError, ValueError: If the model, the data, the history, the snapshots or the card is unfit.
        IsADirectoryError: If `path` is a folder.
        OSError: If the folder of `path` cannot be written to; before anything is measured.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from keras_provlae import ProgressiveVAE
        >>> model = ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=1, channels=4, dense=8)
        >>> images = np.random.default_rng(0).random((20, 8, 8, 1), "float32")
        >>> write_report(model, images, path=tempfile.mkdtemp() + "/report.html").name
        'report.html'

    Source: Li et al. (2020), figures 4 to 7, 10 and table 1.
    """
    check_model(model)
    path = check_path("path", path)
    if path.is_dir():
        raise IsADirectoryError(f"`path` must be that of a file. Received a folder: {path}.")
    if facts is not None and not isinstance(facts, Mapping):
        raise TypeError(f"`facts` must be a dict {{name: value}}. Received: {type(facts).__name__}.")
    if card is not None and not isinstance(card, metrics.MetricCard):
        raise TypeError(f"`card` must be what `metrics.evaluate` returns. Received: {type(card).__name__}.")
    check_count("draws", draws, least=2)
    check_count("num_images", num_images, least=2)
    check_seed(seed)
    name = str(data_name or (data if hasattr(data, "factor_names") else "unnamed images"))
    history, notes = (None, []) if history is None else _checked_history(model, history)
    snapshots, later = (None, []) if snapshots is None else _checked_snapshots(model, snapshots)
    curves = None if history is None else visualization.training_curves(history, data=name)  # it checks the history
    factor_names = getattr(data, "factor_names", None) if factor_names is None else factor_names
    check_writable("The report", path.parent)
    found = measure(model, data, name, factor_names, card, num_images, draws, seed)
    course = [] if curves is None else [("Training", picture(curves, "The course of the training, epoch by epoch."))]
    sections = [
        ("Warnings", warnings([*model_warnings(model, found, history, snapshots or ()), *notes, *later])),
        ("What was trained", written.trained(model, data, name, found, history, seed, facts or {})),
        ("Rungs", written.rungs(model, found)),
        *course,
        (
            "Growth" if model.grows else "Information",
            written.growth(model, found, snapshots, name, draws, seed),
        ),
        ("Latents", written.latents(model, found, name)),
        ("Samples", written.samples(model, found, name, seed)),
        ("Reconstructions", written.reconstructions(model, found, name)),
    ]
    if found.card is not None:
        sections.append(("Factors", written.factors(model, found, name, factor_names)))
        sections.append(("Metric card", found.card._repr_html_()))
    lead = f"What a {type(model).__name__} with {model.num_rungs} rung{'s' if model.num_rungs > 1 else ''} learned."
    footer = f"Written by keras_provlae on {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC."
    text = page(name, lead, sections, footer)
    replace_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))  # bytes of names that are no text
    return path


def _checked_history(model, history):
    history, notes = read_history(history)
    given = rungs_of(history)
    if given and given != [rung for rung, _ in model.rung_slices]:
        raise ValueError(
            f"`history` must be that of this model, of {model.num_rungs} rungs. Received: {len(given)} rungs."
        )
    return history, notes


def _checked_snapshots(model, snapshots):
    """The snapshots up to the step of the model, and a warning where there are later ones."""
    snapshots = as_snapshots(snapshots)
    *rungs, _, height, width, channels = snapshots[0].kind
    if rungs != [rung for rung, _ in model.rung_slices] or (height, width, channels) != tuple(model.image_shape):
        raise ValueError(
            f"`snapshots` must be those of this model: {model.num_rungs} rungs, images {tuple(model.image_shape)}. "
            f"Received: {len(rungs)} rungs and images {(height, width, channels)}."
        )
    reached = model.iteration
    until_now = [one for one in snapshots if one.iteration <= reached] or snapshots
    number = len(snapshots) - len(until_now)
    later = f"{number} snapshots of steps after the model's {reached:,} are left out: its weights were brought back."
    return until_now, [later] if number else []
