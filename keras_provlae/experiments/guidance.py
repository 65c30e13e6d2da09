"""Guidance: what growth, pressure and contours each add, with trainings of the same length."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_provlae import presets
from keras_provlae.experiments import paper, tables
from keras_provlae.experiments.runs import complete
from keras_provlae.experiments.scales import SCALES

TITLE = "Guidance (section 5 of the paper asks for it)"
STEPS = {"smoke": 60, "small": None, "paper": 216_000}  # of a whole training; `None`: the recipe's
SCORES = {
    "mig": "MIG", "mig_sup": "MIG-sup", "factor_vae_score": "FactorVAE score", "dci_disentanglement": "DCI",
}  # fmt: skip
SAME = (  # what all runs share with the recipe's
    "data", "L", "latent_dim", "beta", "iterations", "size", "batch_size", "channels", "dense", "learning_rate",
)  # fmt: skip
WITHOUT_SHAPE = "MIG without the shape, as published"


def grid(scale: str, seed: int, data: Sequence[str] = ("shapes3d",)) -> list[dict]:
    """Returns the runs of one seed: the recipe, the recipe without contours, and models under constant weights.

    All have the same network, latents, iterations and learning rate; the constant weights are those of the recipe's
    stage 0.
    """
    return [complete(run) for name in data for run in _of_data(scale, name, seed)]


def _of_data(scale, name, seed):
    sizes = SCALES[scale][name]
    recipe = presets.recipe(name, sizes["size"], STEPS[scale])
    scored = {"num_images": sizes.get("num_images"), "seed": seed}
    if scale == "smoke":
        scored["scores"] = sizes["scores"]
        recipe["model"] |= {"channels": sizes["channels"], "dense": sizes["dense"]}
    runs = [{"recipe": recipe, **scored}]
    if "contour_weight" in recipe["model"]:
        runs.append({"recipe": without_contours(recipe), **scored})
    whole = complete(runs[0])
    same = {name: whole[name] for name in SAME} | scored
    pressed = {"tc_weight": whole["tc_weight"]}
    return [
        *runs,
        {**same, "model": "pro-VLAE"},
        {**same, "model": "VLAE"},
        {**same, "model": "VLAE", **pressed},
        {**same, "model": "beta-VAE"},
        {**same, "model": "beta-VAE", **pressed},
        {**same, "model": "teacher-student", "learning_rate": 0.6 * same["learning_rate"]},
    ]


def without_contours(recipe: Mapping[str, Any]) -> dict:
    """Returns a recipe without the supervision by contours."""
    model = {name: value for name, value in recipe["model"].items() if name != "contour_weight"}
    annealing = {name: value for name, value in recipe["training"]["annealing"].items() if name != "contour_weight"}
    return {**recipe, "model": model, "training": {**recipe["training"], "annealing": annealing}}


def name_of(run: Mapping[str, Any]) -> str:
    """Returns what a run shows: the model and its guidance."""
    if "recipe" in run:
        how = "with" if "contour_weight" in run["recipe"]["model"] else "without"
        return f"pro-VLAE, recipe {how} contours"
    return run["model"] + (f", total correlation x {run['tc_weight']:g}" if run["tc_weight"] else "")


def report(results: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Returns a Markdown page with the scores of every model and every run."""
    parts = [f"# {TITLE}", tables.how_run(results), *tables.not_finite(results)]
    finite = [result for result in results if result["finite"]]
    for data in dict.fromkeys(result["data"] for result in finite):
        some = [result for result in finite if result["data"] == data]
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for result in some:
            groups.setdefault(name_of(result["run"]), []).append(result)
        parts += [f"## {data}", _ABOUT, _scores(groups, some[0]["run"]["data"]), _FACTORS, _factors(groups)]
        parts += ["Every run:", _runs(some)]
    return "\n\n".join(parts) + "\n"


_ABOUT = (
    "Mean ± standard deviation over all seeds. Scores are at most 1; higher is better. Reconstruction is in nats per "
    "image; lower is better."
)
_FACTORS = (
    "I(z; v) / H(v) of the best latent for each factor, and of the second best in parentheses: means over all seeds."
)


def _scores(groups, data):
    rows = []
    for name, some in groups.items():
        row = [name, len(some), tables.spread([result["reconstruction"] for result in some], 1)]
        row += [tables.spread([result["scores"].get(score) for result in some], 3) for score in SCORES]
        if data == "dsprites":
            row.append(tables.spread([without_shape(result) for result in some], 3))
        rows.append(row)
    if data == "shapes3d":
        best = [f"{paper.BEST_SCORES[score]:.3f}" if score in paper.BEST_SCORES else "-" for score in SCORES]
        rows.append(["the paper's best model (figure 9)", 1, "-", *best])
    extra = [WITHOUT_SHAPE] if data == "dsprites" else []
    return tables.markdown(["model", "runs", "reconstruction", *SCORES.values(), *extra], rows)


def without_shape(result: Mapping[str, Any]) -> float:
    """Returns the MIG of dSprites as the authors' program has it: without the first factor."""
    first, second = _two_best(result)
    return float(np.mean((first - second)[1:]))


def _two_best(result):
    """I(z; v) / H(v) of the best and the second-best latent: two arrays `(factors,)`."""
    ranked = np.sort(np.array(result["stages"][-1]["normalized"]), axis=1)
    return ranked[:, -1], ranked[:, -2]


def _factors(groups):
    names = [name.rsplit(" ", 1)[0] for name in next(iter(groups.values()))[0]["card"]["about"]["factors"]]
    rows = []
    for name, some in groups.items():
        first, second = (np.mean(values, axis=0) for values in zip(*map(_two_best, some), strict=True))
        rows.append([name, *(f"{one:.2f} ({two:.2f})" for one, two in zip(first, second, strict=True))])
    return tables.markdown(["model", *names], rows)


def _runs(results):
    rows = []
    for result in results:
        values = [result["reconstruction"], *(result["scores"].get(score) for score in SCORES)]
        minutes = sum(result["seconds"].values()) / 60
        shown = ["-" if value is None else f"{value:.3f}" for value in values]
        rows.append([name_of(result["run"]), result["run"]["seed"], *shown, f"{minutes:.0f}"])
    return tables.markdown(["model", "seed", "reconstruction", *SCORES.values(), "minutes"], rows)
