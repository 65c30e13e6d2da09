"""Sections of a report, each as HTML."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_provlae import visualization
from keras_provlae.export.metadata import describe
from keras_provlae.html_table import table
from keras_provlae.metrics.card import words
from keras_provlae.report.measurements import Measurements, result_of
from keras_provlae.report.page import picture

SWAPPED_PAIRS, RECONSTRUCTED, SAMPLES = 2, 12, 36
MOST_RESPONSES = 18  # factors, in three lines


def trained(
    model: keras.Model,
    data: Any,
    name: str,
    found: Measurements,
    history: Mapping[str, Sequence[float]] | None,
    seed: int | None,
    facts: Mapping[str, Any],
) -> str:
    """Table of the model, its training and its data."""
    about = describe(model)
    config = about["model"]["config"]
    rows = {
        "model": about["model"]["class"],
        "preset": model.preset or "none",
        "data": name,
        "image shape": " x ".join(map(str, model.image_shape)),
        "latents per rung": ", ".join(f"rung {rung}: {s.stop - s.start}" for rung, s in model.rung_slices),
        "parameters": f"{model.count_params():,}",
        **{name: getattr(model, name) for name in model.loss_weights.by_name},
        "likelihood": config["likelihood"],
        "precision": model.dtype_policy.name,
    }
    if model.grows:
        rows["growth"] = f"stage {model.stage} of 0 to {model.num_rungs - 1}, alpha {model.alpha:.3g}"
        rows |= {"last fade-in": f"{model.fade_in_steps:,} steps"} if model.stage else {}
    rows["steps"] = f"{model.iteration:,}"
    if getattr(model, "optimizer", None) is not None:
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # of mixed precision
        rows["optimizer"] = f"{type(optimizer).__name__}, learning rate {float(optimizer.learning_rate):g}"
    if history:
        last = ", ".join(f"{key} {history[key][-1]:.2f}" for key in ("loss", "reconstruction") if key in history)
        number = int(history.get("epoch", range(len(history["reconstruction"])))[-1]) + 1
        rows["last epoch"] = f"{number}; {last} nats per image"
    seeded = "no seed" if seed is None else f"seed {seed}"
    rows["measured on"] = f"{len(found.images):,} images{_of_all(data)}, {seeded} (subset and draws)"
    rows["versions"] = ", ".join(f"{package} {number}" for package, number in _versions(about["versions"]).items())
    rows["backend"] = keras.backend.backend()
    rows |= facts
    return table(("", ""), [(str(key), words(value)) for key, value in rows.items()])


def _versions(found):
    """Adds the versions of the backend and matplotlib to those of an export."""
    more = {name: importlib.metadata.version(name) for name in {keras.backend.backend(), "matplotlib"} - set(found)}
    return {**found, **dict(sorted(more.items()))}


def _of_all(data):
    """Text with the size of the data, if known."""
    data = data[0] if isinstance(data, tuple) else data
    known = hasattr(data, "factor_names") or hasattr(data, "shape")
    return f" of {len(data):,}" if known else ""


def rungs(model: keras.Model, found: Measurements) -> str:
    """Table with a row per rung, and one for all rungs."""
    flow, holders = found.flow, _holders(found)
    rows = []
    for index, (rung, columns) in enumerate(model.rung_slices):
        rows.append([
            f"{rung}" + (" (locked)" if rung in found.locked else ""),
            f"{found.use.active[columns].sum()} of {columns.stop - columns.start}",
            _nats(flow.mi[index], flow.standard_error[index]),
            f"{found.use.kl[columns].sum():.3f}",
            *([_list(holders[rung])] if holders else []),
        ])  # fmt: skip
    active = f"{found.use.active.sum()} of {len(found.use.active)}"
    total = _nats(flow.total, flow.total_standard_error)
    rows.append(["all", active, total, f"{found.use.kl.sum():.3f}", *([""] if holders else [])])
    header = [
        "rung",
        "active latents",
        "I(x; z) in nats",
        "KL in nats",
        *(["main factors (I(z; v) / H(v))"] if holders else []),
    ]
    note = (
        f"I_over, the information that several rungs share: {_nats(flow.i_over, flow.i_over_standard_error)} nats. "
        f"I(x; z) is estimated from {flow.rows:,} images and {flow.draws:,} draws: it cannot exceed ln {flow.rows:,} = "
        f"{flow.ceiling:.2f} nats."
    )
    return table(header, rows, numbers=(1, 2, 3)) + f"<p>{note}</p>"


def _nats(value, error):
    return f"{round(float(value), 3) + 0.0:.3f} ± {error:.3f}"


def _holders(found):
    """`{rung: factors that it is the most informative rung about, with their shares}`, if the card has them."""
    held = result_of(found.card, "rung_factor_map")
    if held is None:
        return {}
    shares = dict(zip(held.factor_names, np.nan_to_num(held.normalized).max(axis=0), strict=True))
    return {
        rung: [f"{factor} {shares[factor]:.2f}" for factor, holder in held.holders.items() if holder == rung]
        for rung in held.rungs
    }


def _list(words, most=8):
    """Joins up to `most` words, and counts the rest."""
    more = [f"and {len(words) - most} more"] if len(words) > most else []
    return ", ".join([*words[:most], *more]) or "-"


def growth(
    model: keras.Model,
    found: Measurements,
    snapshots: Sequence[visualization.Snapshot] | None,
    name: str,
    draws: int,
    seed: int | None,
) -> str:
    """Timeline of the growth, or the current model without snapshots."""
    when = "At the end of every stage" if model.grows else "At the last snapshot"
    if snapshots is None:
        snapshots = [visualization.Snapshot.of(model, found.images, found.pictured[:1], draws=draws, seed=seed)]
        when = "The current model (no snapshots of the training were given)"
    caption = f"{when}: images of each rung drawn from its prior, the others held; bars: I(x; z_l); on top: I(x; z)."
    return picture(visualization.growth_timeline(snapshots, data=name), caption)


def latents(model: keras.Model, found: Measurements, name: str) -> str:
    """Traversals, with the KL and the main factor of each latent."""
    information = result_of(found.card, "mutual_information")
    figure = visualization.traversals(
        model, found.pictured[:1], images=found.images, information=information, data=name,
        order="rung" if information is None else "factor",
    )  # fmt: skip
    factor = "" if information is None else ", and the factor v that the latent holds, with I(z; v) / H(v)"
    caption = (
        f"Each latent swept over the prior, all others held at the codes of one image. Beside each row: its KL{factor}."
    )
    return picture(figure, caption)


def samples(model: keras.Model, found: Measurements, name: str, seed: int | None) -> str:
    """Samples of each rung, and manifolds of rungs with two latents."""
    around = found.pictured[:1]
    figure = visualization.rung_samples(model, around, n=SAMPLES, seed=seed, data=name)
    parts = [picture(figure, "Each rung drawn from its prior, the others held at the codes of one image.")]
    for rung, columns in model.rung_slices:
        if columns.stop - columns.start == 2:
            caption = f"Both latents of rung {rung} swept over the prior; the other rungs held."
            parts.append(picture(visualization.manifold(model, rung, around, steps=11, data=name), caption))
    return "".join(parts)


def reconstructions(model: keras.Model, found: Measurements, name: str) -> str:
    """Reconstructions, and rungs swapped between images."""
    images = found.pictured
    half = min(SWAPPED_PAIRS, len(images) // 2)
    swaps = visualization.rung_swaps(model, images[:half], images[half : 2 * half], data=name)
    return picture(
        visualization.reconstructions(model, images[:RECONSTRUCTED], data=name), "Images and reconstructions."
    ) + picture(swaps, "Two images, A and B, that swap the codes of one rung.")


def factors(
    model: keras.Model,
    found: Measurements,
    name: str,
    factor_names: Sequence[str] | None,
    data: Any = None,
    seed: int | None = 0,
) -> str:
    """Heatmaps of the card's results, if it has them, responses to the factors on the subset, and flipped codes."""
    parts, results = [], {} if found.card is None else found.card.results
    if "rung_factor_map" in results:
        figure = visualization.rung_factor_heatmap(found.card)
        parts.append(picture(figure, "Information of each rung about each factor, as a share of the factor's entropy."))
    if "mutual_information" in results:
        figure = visualization.mutual_information_heatmap(
            found.card, model.rung_slices, latent_names=model.latent_names
        )
        parts.append(picture(figure, "The same for each latent: the matrix behind MIG and MIG-sup."))
    if found.factors is not None and found.factors.reshape(len(found.images), -1).shape[1] <= MOST_RESPONSES:
        figure = visualization.latent_responses(
            found.mean, found.log_var, found.factors, model.rung_slices, factor_names, name, model.latent_names
        )
        parts.append(picture(figure, "Response of each latent to each factor: its mean, and one standard deviation."))
    for factor, latent in [] if found.contexts is None or data is None else found.contexts.flipped:
        figure = visualization.context_sweeps(model, data, factor, latent, seed=seed, data=name)
        parts.append(picture(figure, f"A flipped code: {factor} swept in three contexts of the other factors."))
    return "".join(parts) or "<p>No pictures: the card was read from a file, and the data have no factors.</p>"
