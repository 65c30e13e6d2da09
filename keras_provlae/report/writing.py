"""The report: what was trained, what it learned, and what to be wary of, in one file."""

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_provlae import metrics, visualization
from keras_provlae.export.metadata import describe
from keras_provlae.report.findings import findings
from keras_provlae.report.measurements import measure
from keras_provlae.report.page import page, picture, table, warnings
from keras_provlae.visualization.curves import read_history
from keras_provlae.visualization.style import as_pairs

SWAPPED_PAIRS, RECONSTRUCTED, SAMPLES = 2, 12, 36


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

    It says what was trained, warns in words of what is not as it should be, and shows the curves, the growth timeline,
    a table of the rungs, traversals, samples, swaps and reconstructions; with known factors also
    heat-maps, responses and the metric card.

    Args:
        model: A `LadderVAE`.
        data: A ground truth, or a pair `(images, factors)`, or images alone: an array or a data set of batches.
        history: What `fit` returned, its dict, or the path of the file that `CSVLogger` wrote; `None` leaves the curves
            out.
        path: Where the file goes; its folder is made, a file that is there is replaced.
        snapshots: `callbacks.TraversalSnapshots.snapshots`, or its folder; `None` shows the model as it is alone.
        card: What `metrics.evaluate` returned. `None` computes one of the held images, with the scores
            that take seconds.
        data_name: What the images are; `None` asks the ground truth.
        factor_names: Names of the factors; `None` asks the ground truth.
        facts: {name: value} to add to what was trained: the seed of the training, the command.
        num_images: Int >= 2. Images that are held to measure and draw: random ones, or the first of a data set.
        draws: Int >= 2. Draws of (x, z) for I(x; z_l).
        seed: Int or `None`. Seed of everything that is drawn for the report.

    Returns:
        The path.

    Raises:
        TypeError, ValueError: If the model, the data, the history or the card is unfit.

    Example:
        >>> import tempfile
        >>> from keras_provlae import ProgressiveVAE
        >>> model = ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=1, channels=4, dense=8)
        >>> images = np.random.default_rng(0).random((20, 8, 8, 1), "float32")
        >>> write_report(model, images, path=tempfile.mkdtemp() + "/report.html").name
        'report.html'

    Source: Li et al. (2020), figures 4 to 7, 10 and table 1.
    """
    if not (hasattr(model, "encode") and hasattr(model, "rung_slices")):
        raise TypeError(f"`model` must be a LadderVAE, such as ProgressiveVAE. Received: {type(model).__name__}.")
    if card is not None and not isinstance(card, metrics.MetricCard):
        raise TypeError(f"`card` must be what `metrics.evaluate` returns. Received: {type(card).__name__}.")
    name = data_name or (str(data) if hasattr(data, "factor_names") else "unnamed images")
    history = None if history is None else read_history(history)
    curves = None if history is None else visualization.training_curves(history, data=name)  # it checks the history
    factor_names = getattr(data, "factor_names", None) if factor_names is None else factor_names
    found = measure(model, data, name, factor_names, card, num_images, draws, seed)
    sections = [
        ("Warnings", warnings(findings(model, found, history))),
        ("What was trained", _trained(model, data, name, found, history, seed, facts or {})),
        ("Rungs", _rungs(model, found)),
        *([] if curves is None else [("Training", picture(curves, "The course of the training, epoch by epoch."))]),
        ("Growth", _growth(model, found, snapshots, name, draws, seed)),
        ("Latents", _latents(model, found, name)),
        ("Samples", _samples(model, found, name, seed)),
        ("Reconstructions", _reconstructions(model, found, name)),
        *(
            []
            if found.card is None
            else [("Factors", _factors(model, found, name)), ("Metric card", _card(found.card))]
        ),
    ]
    lead = f"{type(model).__name__} with {model.num_rungs} rungs, on {name}."
    footer = f"Written by keras_provlae on {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC."
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{model.preset or model.name}: what it learned"
    path.write_text(page(title, lead, sections, footer), encoding="utf-8")
    return path


def _trained(model, data, name, found, history, seed, facts):
    about = describe(model)
    config = about["model"]["config"]
    rows = {
        "model": about["model"]["class"],
        "preset": model.preset or "none",
        "data": name,
        "image shape": " x ".join(map(str, model.image_shape)),
        "latents per rung": ", ".join(f"rung {rung}: {s.stop - s.start}" for rung, s in model.rung_slices),
        "parameters": f"{model.count_params():,}",
        **{key: config[key] for key in ("beta", "gamma", "likelihood") if key in config},
        "precision": model.dtype_policy.name,
    }
    if about["iteration"] is not None:
        rows["growth"] = f"stage {model.stage} of {model.num_rungs - 1}, alpha {model.alpha:.3g}"
        rows["optimiser steps"] = f"{model.iteration:,}"
    if getattr(model, "optimizer", None) is not None:
        rows["optimizer"] = f"{type(model.optimizer).__name__}, learning rate {float(model.optimizer.learning_rate):g}"
    if history:
        last = ", ".join(f"{key} {history[key][-1]:.2f}" for key in ("loss", "reconstruction") if history.get(key))
        rows["last epoch"] = f"{len(history['reconstruction'])}; {last} nats per image"
    rows["measured on"] = f"{len(found.images):,} images{_of_all(data)}, seed {seed} (of choice and draws)"
    versions = {**about["versions"], "backend": keras.backend.backend()}
    rows["versions"] = ", ".join(f"{key} {value}" for key, value in versions.items())
    rows |= facts
    return table(("", ""), [(str(key), str(value)) for key, value in rows.items()])


def _of_all(data):
    """How many there are, where that is known."""
    data = data[0] if isinstance(data, tuple) else data
    known = hasattr(data, "factor_names") or hasattr(data, "shape")
    return f" of {len(data):,}" if known else ""


def _rungs(model, found):
    """A line for each rung, and one for all of them."""
    flow, holders = found.flow, _holders(found)
    rows = []
    for index, (rung, columns) in enumerate(model.rung_slices):
        held = [factor for factor, holder in holders.items() if holder == rung]
        rows.append([
            f"{rung}" + (" (locked)" if rung in found.locked else ""),
            f"{found.use.active[columns].sum()} of {columns.stop - columns.start}",
            f"{flow.mi[index]:.3f} ± {flow.standard_error[index]:.3f}",
            f"{found.use.kl[columns].sum():.3f}",
            *([", ".join(held) or "-"] if holders else []),
        ])  # fmt: skip
    active = f"{found.use.active.sum()} of {len(found.use.active)}"
    total = f"{flow.total:.3f} ± {flow.total_standard_error:.3f}"
    rows.append(["all", active, total, f"{found.use.kl.sum():.3f}", *([""] if holders else [])])
    header = ["rung", "active latents", "I(x; z) in nats", "KL in nats", *(["holds most of"] if holders else [])]
    note = (
        f"I_over, what several rungs hold at once: {flow.i_over:.3f} ± {flow.i_over_standard_error:.3f} nats. "
        f"I(x; z) is of {flow.rows:,} images and cannot exceed ln {flow.rows:,} = {flow.ceiling:.2f} nats; "
        f"{flow.draws:,} draws."
    )
    return table(header, rows, numbers=(1, 2, 3)) + f"<p>{note}</p>"


def _holders(found):
    held = None if found.card is None else found.card.results.get("rung_factor_map")
    return {} if held is None else held.holders


def _growth(model, found, snapshots, name, draws, seed):
    when = "At the end of every stage"
    if snapshots is None:
        snapshots = [visualization.Snapshot.of(model, found.images, found.pictured[:1], draws=draws, seed=seed)]
        when = "The model as it is (snapshots of the training were not given)"
    caption = f"{when}: images of each rung drawn from its prior, the others held; bars: I(x; z_l); on top: I(x; z)."
    return picture(visualization.growth_timeline(snapshots, data=name), caption)


def _latents(model, found, name):
    information = _information(found)
    figure = visualization.traversals(
        model, found.pictured[:1], images=found.images, information=information, data=name,
        order="rung" if information is None else "factor",
    )  # fmt: skip
    what = "" if information is None else ", and the factor that the latent holds with the share of its entropy"
    caption = f"Each latent swept over the prior, all others held. Beside each row: its KL{what}."
    return picture(figure, caption)


def _information(found):
    return None if found.card is None else found.card.results.get("mutual_information")


def _samples(model, found, name, seed):
    around = found.pictured[:1]
    figure = visualization.rung_samples(model, around, n=SAMPLES, seed=seed, data=name)
    parts = [picture(figure, "Each rung drawn from its prior, the others held at the codes of one image.")]
    for rung, columns in model.rung_slices:
        if columns.stop - columns.start == 2:
            caption = f"Both latents of rung {rung} swept over the prior; the other rungs held."
            parts.append(picture(visualization.manifold(model, rung, around, steps=11, data=name), caption))
    return "".join(parts)


def _reconstructions(model, found, name):
    images = found.pictured
    half = min(SWAPPED_PAIRS, len(images) // 2)
    swaps = visualization.rung_swaps(model, images[:half], images[half : 2 * half], data=name)
    return picture(
        visualization.reconstructions(model, images[:RECONSTRUCTED], data=name), "Images and reconstructions."
    ) + picture(swaps, "Two images, A and B, that exchange the codes of one rung.")


def _factors(model, found, name):
    """Heat-maps of the card's results where it has them, and responses of the held images."""
    parts, results = [], found.card.results
    if "rung_factor_map" in results:
        figure = visualization.rung_factor_heatmap(found.card)
        parts.append(picture(figure, "How much each rung knows of each factor, as a share of the factor's entropy."))
    if "mutual_information" in results:
        figure = visualization.mutual_information_heatmap(found.card, model.rung_slices)
        parts.append(picture(figure, "The same for each latent: the matrix behind MIG and MIG-sup."))
    if found.factors is not None:
        names = getattr(results.get("mutual_information"), "factor_names", None)
        columns = found.factors.reshape(len(found.images), -1)
        names = names if names is not None and len(names) == columns.shape[1] else None
        figure = visualization.latent_responses(
            found.mean, found.log_var, columns, as_pairs(model.rung_slices), names, data=name
        )
        parts.append(picture(figure, "How each latent answers to each factor: its mean, and one standard deviation."))
    return "".join(parts) or "<p>The card was read from a file and the data have no factors: no pictures.</p>"


def _card(card):
    about = [(str(key), _words(value)) for key, value in card.about.items()]
    rows = [
        (
            score.name,
            f"{'nan' if np.isnan(score.value) else f'{score.value:.4f}'} {score.unit}".strip(),
            "" if score.standard_error is None else f"{score.standard_error:.2g}",
            str(score.convention.get("rows", "")),
            "; ".join(filter(None, [score.note, str(score.convention.get("estimator", ""))])),
        )
        for score in card.values()
    ]
    skipped = [(name, why) for name, why in card.skipped.items()]
    parts = [table(("score", "value", "±", "rows", "how"), rows, numbers=(1, 2, 3)), table(("", ""), about)]
    if skipped:
        parts.append(table(("left out", "why"), skipped))
    return "".join(parts)


def _words(value):
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
