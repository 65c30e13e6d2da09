"""The parts of a report, each as HTML."""

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
MOST_RESPONSES = 18  # factors, in three lines: more would be a wall of lines


def trained(
    model: keras.Model,
    data: Any,
    name: str,
    found: Measurements,
    history: Mapping[str, Sequence[float]] | None,
    seed: int | None,
    facts: Mapping[str, Any],
) -> str:
    """What was trained, on what, with what."""
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
    drawn = "no seed" if seed is None else f"seed {seed}"
    rows["measured on"] = f"{len(found.images):,} images{_of_all(data)}, {drawn} (of choice and draws)"
    rows["versions"] = ", ".join(f"{package} {number}" for package, number in _versions(about["versions"]).items())
    rows["backend"] = keras.backend.backend()
    rows |= facts
    return table(("", ""), [(str(key), words(value)) for key, value in rows.items()])


def _versions(found):
    """Those of an export, and of what else made the numbers and the pictures."""
    more = {name: importlib.metadata.version(name) for name in {keras.backend.backend(), "matplotlib"} - set(found)}
    return {**found, **dict(sorted(more.items()))}


def _of_all(data):
    """How many there are, where that is known."""
    data = data[0] if isinstance(data, tuple) else data
    known = hasattr(data, "factor_names") or hasattr(data, "shape")
    return f" of {len(data):,}" if known else ""


def rungs(model: keras.Model, found: Measurements) -> str:
    """A line for each rung, and one for all of them."""
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
        *(["of all rungs knows most of (share of its entropy)"] if holders else []),
    ]
    note = (
        f"I_over, what several rungs hold at once: {_nats(flow.i_over, flow.i_over_standard_error)} nats. "
        f"I(x; z) is of {flow.rows:,} images and cannot exceed ln {flow.rows:,} = {flow.ceiling:.2f} nats; "
        f"{flow.draws:,} draws."
    )
    return table(header, rows, numbers=(1, 2, 3)) + f"<p>{note}</p>"


def _nats(value, error):
    return f"{round(float(value), 3) + 0.0:.3f} ± {error:.3f}"


def _holders(found):
    """{rung: the factors that it knows most of, with their shares}, where the card has them."""
    held = result_of(found.card, "rung_factor_map")
    if held is None:
        return {}
    shares = dict(zip(held.factor_names, np.nan_to_num(held.normalized).max(axis=0), strict=True))
    return {
        rung: [f"{factor} {shares[factor]:.2f}" for factor, holder in held.holders.items() if holder == rung]
        for rung in held.rungs
    }


def _list(words, most=8):
    """At most so many, and how many more there are."""
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
    """The timeline of the growth, or the model as it is."""
    when = "At the end of every stage" if model.grows else "At the last snapshot"
    if snapshots is None:
        snapshots = [visualization.Snapshot.of(model, found.images, found.pictured[:1], draws=draws, seed=seed)]
        when = "The model as it is (snapshots of the training were not given)"
    caption = f"{when}: images of each rung drawn from its prior, the others held; bars: I(x; z_l); on top: I(x; z)."
    return picture(visualization.growth_timeline(snapshots, data=name), caption)


def latents(model: keras.Model, found: Measurements, name: str) -> str:
    """Traversals, with what is known of each latent."""
    information = result_of(found.card, "mutual_information")
    figure = visualization.traversals(
        model, found.pictured[:1], images=found.images, information=information, data=name,
        order="rung" if information is None else "factor",
    )  # fmt: skip
    what = "" if information is None else ", and the factor that the latent holds with the share of its entropy"
    caption = (
        f"Each latent swept over the prior, all others held at the codes of one image. Beside each row: its KL{what}."
    )
    return picture(figure, caption)


def samples(model: keras.Model, found: Measurements, name: str, seed: int | None) -> str:
    """Samples of each rung, and the manifolds of rungs of two latents."""
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
    ) + picture(swaps, "Two images, A and B, that exchange the codes of one rung.")


def factors(model: keras.Model, found: Measurements, name: str, factor_names: Sequence[str] | None) -> str:
    """Heat-maps of the card's results where it has them, and responses of the held images."""
    parts, results = [], found.card.results
    if "rung_factor_map" in results:
        figure = visualization.rung_factor_heatmap(found.card)
        parts.append(picture(figure, "How much each rung knows of each factor, as a share of the factor's entropy."))
    if "mutual_information" in results:
        figure = visualization.mutual_information_heatmap(found.card, model.rung_slices)
        parts.append(picture(figure, "The same for each latent: the matrix behind MIG and MIG-sup."))
    if found.factors is not None and found.factors.reshape(len(found.images), -1).shape[1] <= MOST_RESPONSES:
        figure = visualization.latent_responses(
            found.mean, found.log_var, found.factors, model.rung_slices, factor_names, data=name
        )
        parts.append(picture(figure, "How each latent answers to each factor: its mean, and one standard deviation."))
    return "".join(parts) or "<p>The card was read from a file and the data have no factors: no pictures.</p>"
