"""Writes a report about a trained model, as one HTML file."""

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
    """Writes one self-contained HTML file about a trained model, which opens without a network.

    It describes the training and shows the curves, the growth timeline, a table of the rungs, traversals, samples,
    swaps and reconstructions; with known factors also heatmaps, responses and the metric card. It warns of rungs
    that carry less than 0.1 nats, latents that are never used, KL that carries no information, I(x; z) at its
    ceiling, rungs that are still locked, latents whose meaning depends on the context, fade-ins that never
    finished, a loss that is not finite or was still falling (by 1% over the last fifth of the last stage), a model
    that was never trained, and fewer than 100 images.

    Args:
        model: A `LadderVAE`.
        data: A ground truth, a pair `(images, factors)`, or images only: an array or a data set of batches.
        history: The `History` that `fit` returned, its dict, or the path of a file of `CSVLogger`; `None` leaves out
            the curves.
        path: Path of the file; its folder is created, an existing file is replaced.
        snapshots: `callbacks.TraversalSnapshots.snapshots`, or its folder; `None` shows only the current model.
        card: Result of `metrics.evaluate`. `None` computes a card of the scores that take seconds, on the subset.
        data_name: Name of the data: a text, or the `GroundTruth` itself; `None` takes that of the ground truth.
        factor_names: Names of the factors; `None` takes those of the ground truth.
        facts: {name: value} to add to the description of the training: its seed, the command.
        num_images: Int >= 2. Size of the subset to measure and draw: random images, or the first of a data set.
        draws: Int >= 2. Draws of (x, z) for I(x; z_l).
        seed: Int or `None`. Seed of all draws for the report.

    Returns:
        The path.

    Raises:
        TypeError, ValueError: If the model, the data, the history, the snapshots or the card is invalid.
        IsADirectoryError: If `path` is a folder.
        OSError: If the folder of `path` is not writable; raised before anything is measured.

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
        raise IsADirectoryError(f"`path` must be a file. Received a folder: {path}.")
    if facts is not None and not isinstance(facts, Mapping):
        raise TypeError(f"`facts` must be a dict {{name: value}}. Received: {type(facts).__name__}.")
    if card is not None and not isinstance(card, metrics.MetricCard):
        raise TypeError(f"`card` must be the result of `metrics.evaluate`. Received: {type(card).__name__}.")
    check_count("draws", draws, least=2)
    check_seed(seed)
    name = str(data_name or (data if hasattr(data, "factor_names") else "unnamed images"))
    history, notes = (None, []) if history is None else _checked_history(model, history)
    snapshots, later = (None, []) if snapshots is None else _checked_snapshots(model, snapshots)
    curves = None if history is None else visualization.training_curves(history, data=name)
    factor_names = getattr(data, "factor_names", None) if factor_names is None else factor_names
    check_writable("The report", path.parent)
    found = measure(model, data, name, factor_names, card, num_images, draws, seed)
    training = [] if curves is None else [("Training", picture(curves, "Curves of the training, by epoch."))]
    sections = [
        ("Warnings", warnings([*model_warnings(model, found, history, snapshots or ()), *notes, *later])),
        ("What was trained", written.trained(model, data, name, found, history, seed, facts or {})),
        ("Rungs", written.rungs(model, found)),
        *training,
        (
            "Growth" if model.grows else "Information",
            written.growth(model, found, snapshots, name, draws, seed),
        ),
        ("Latents", written.latents(model, found, name)),
        ("Samples", written.samples(model, found, name, seed)),
        ("Reconstructions", written.reconstructions(model, found, name)),
    ]
    if found.card is not None:
        sections.append(("Factors", written.factors(model, found, name, factor_names, data, seed)))
        sections.append(("Metric card", found.card._repr_html_()))
    lead = f"Report on a {type(model).__name__} with {model.num_rungs} rung{'s' if model.num_rungs > 1 else ''}."
    footer = f"Written by keras_provlae on {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC."
    text = page(name, lead, sections, footer)
    replace_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))  # names may have undecodable bytes
    return path


def _checked_history(model, history):
    history, notes = read_history(history)
    given = rungs_of(history)
    if given and given != [rung for rung, _ in model.rung_slices]:
        raise ValueError(
            f"`history` must be of this model, with {model.num_rungs} rungs. Received: {len(given)} rungs."
        )
    return history, notes


def _checked_snapshots(model, snapshots):
    """Returns the snapshots up to the model's step, and a warning if there are later ones."""
    snapshots = as_snapshots(snapshots)
    *rungs, _, height, width, channels = snapshots[0].kind
    if rungs != [rung for rung, _ in model.rung_slices] or (height, width, channels) != tuple(model.image_shape):
        raise ValueError(
            f"`snapshots` must be of this model: {model.num_rungs} rungs, images {tuple(model.image_shape)}. "
            f"Received: {len(rungs)} rungs and images {(height, width, channels)}."
        )
    reached = model.iteration
    until_now = [one for one in snapshots if one.iteration <= reached] or snapshots
    number = len(snapshots) - len(until_now)
    later = f"{number} snapshots after the model's step {reached:,} are left out: earlier weights were restored."
    return until_now, [later] if number else []
