"""Figures 4, 6, 7 and 10: effect of the trained models' latents and rungs on an image."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_provlae.experiments import comparison, sources
from keras_provlae.experiments.runner import MODELS
from keras_provlae.experiments.scales import run
from keras_provlae.experiments.tables import how_run, markdown, not_finite, of
from keras_provlae.visualization import manifold, rung_samples, traversals, write_png

TITLE = "Traversals (figures 4, 6, 7 and 10)"
SHOWN = 500  # images for measuring which latents are used


def grid(scale: str, seed: int, faces: str = "scenes") -> list[dict]:
    """Returns the runs of one seed: figure 4 (from the comparison), MNIST with three and two latents, and faces.

    Args:
        scale: `"smoke"`, `"small"` or `"paper"`.
        seed: Int.
        faces: `"celeb_a"`, or `"scenes"` to replace the faces with procedural images with hierarchical factors.
    """
    return [
        *(one for one in comparison.grid(scale, seed) if one["model"] != "beta-VAE"),
        run(scale, "mnist", beta=1, L=3, latent_dim=3, seed=seed),
        run(scale, "mnist", beta=1, L=3, latent_dim=2, seed=seed),
        run(scale, faces, beta=1, gamma=0.1, L=4, latent_dim=7, seed=seed),
    ]


def report(results: Sequence[Mapping[str, Any]], folder: Path, source_of: Mapping[str, str] | None = None) -> str:
    """Draws the pictures and returns a Markdown page; a table lists every picture and every missing model."""
    parts = [f"# {TITLE}", how_run(results), *not_finite(results)]
    results = [result for result in results if result["finite"]]
    top = len(parts)
    rows = []
    for figure, shown, result, draw in _figures(results):
        file = folder.parent / MODELS / result["key"] / "model.keras"
        name = f"{shown.replace(' ', '_').replace(',', '')}.png"
        where = f"[{name}]({name})"
        if file.exists():
            data = sources.load(result["run"], (source_of or {}).get(result["run"]["data"]))
            images, _ = data.truth.sample(min(SHOWN, len(data.truth)), seed=0)
            write_png(draw(keras.models.load_model(file), images, f"{result['data']}: {shown}"), folder / name)
        if (folder / name).exists():
            parts.append(f"![{figure}: {shown}]({name})")
        else:
            where = "model not found: run the experiment in this folder"
        rows.append([figure, shown, result["run"]["seed"], _scores(result), _other_seeds(result, results), where])
    heading = ["the paper's", "ours", "seed", "scores", "other seeds (not drawn)", "picture"]
    parts.insert(top, markdown(heading, rows))
    return "\n\n".join(parts) + "\n"


def _figures(results):
    """Returns `(figure, name, result, drawing function)` for each picture."""
    found = []
    swept = of(results, data="shapes3d")
    for model in "pro-VLAE", "VLAE", "teacher-student":
        of_model = of(swept, model=model)
        if of_model:
            found.append(("figure 4", f"best {model} on shapes3d", max(of_model, key=_quality), _all_latents))
    for result in of(results, data="mnist", latent_dim=3)[:1]:
        found.append(("figure 6", "pro-VLAE on mnist", result, _rungs))
    for result in of(results, data="mnist", latent_dim=2)[:1]:
        for rung in range(result["run"]["L"], 0, -1):
            found.append(("figure 10", f"z_{rung} of pro-VLAE on mnist", result, functools.partial(_manifold, rung)))
    for name in "celeb_a", "scenes":
        for result in of(results, data=name)[:1]:
            found.append(("figure 7", f"pro-VLAE on {name}", result, _all_latents))
    return found


def _quality(result):
    return (result["scores"]["mig"] or 0.0) + (result["scores"]["mig_sup"] or 0.0)


def _scores(result):
    """Formats MIG and MIG-sup if the factors are known, else I(x; z_l) of each rung."""
    scores = result["scores"]
    if "normalized" in result["stages"][-1]:
        return f"MIG {scores['mig'] or 0:.2f}, MIG-sup {scores['mig_sup'] or 0:.2f}"
    return ", ".join(f"z_{rung} {mi:.1f} nats" for rung, mi in result["stages"][-1]["mi"].items())


def _other_seeds(result, results):
    """Formats the scores of the same run with every other seed."""

    def seedless(run):
        return {name: value for name, value in run.items() if name != "seed"}

    others = [other for other in results if other is not result and seedless(other["run"]) == seedless(result["run"])]
    return "; ".join(f"{other['run']['seed']}: {_scores(other)}" for other in others)


def _all_latents(model, images, words):
    return traversals(model, images[:1], images=images, data=words)


def _rungs(model, images, words):
    return rung_samples(model, images[:1], n=36, data=words)


def _manifold(rung, model, images, words):
    return manifold(model, rung=rung, data=words)
