"""Runs: a run is one training and its scores, described by a plain dict."""

import hashlib
import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from keras_provlae import metrics, presets, recipes
from keras_provlae.models import VLAE, BetaVAE, ProgressiveVAE, TeacherStudentVAE
from keras_provlae.models.beta_vae import PER_RUNG, end_of_trunk

MODELS = {"pro-VLAE": ProgressiveVAE, "VLAE": VLAE, "beta-VAE": BetaVAE, "teacher-student": TeacherStudentVAE}
DATA = {"shapes3d": 64, "dsprites": 64, "scenes": 64, "mnist": 28, "celeb_a": 64}  # original height and width, pixels
NEEDED = ("model", "data", "beta", "L", "latent_dim", "seed", "iterations", "size")
OPTIONAL = {
    "gamma": None,  # pro-VLAE only; 0 turns the pre-trained KL penalty off
    "fade_in": None,  # steps, pro-VLAE only; 0 turns the fade-in off
    "batch_size": 100,
    "channels": None,  # `None`: the preset's
    "dense": None,
    "learning_rate": None,  # `None`: the model's default
    "tc_weight": 0.0,
    "source": "auto",  # a keyword of the data set's loader, or the name of a file or folder
    "num_images": None,  # images to score; `None`: all
    "scores": None,  # groups of `metrics.GROUPS`; `None`: all
}
OF_RECIPE = ("recipe", "seed", "source", "num_images", "scores")  # the keys of a run that follows a recipe
INTEGERS = {  # {name: smallest value}
    "L": 1, "latent_dim": 1, "iterations": 1, "size": 1, "seed": 0, "fade_in": 0, "batch_size": 1, "channels": 1,
    "dense": 1, "num_images": 2,
}  # fmt: skip
NUMBERS = {"beta": 0, "gamma": 0, "tc_weight": 0, "learning_rate": 1e-12}


def complete(run: Mapping[str, Any]) -> dict:
    """Checks a run and fills in its defaults, so that equal runs are equal dicts.

    Args:
        run: A dict with
            `model`: `"pro-VLAE"`, `"VLAE"`, `"beta-VAE"` or `"teacher-student"`;
            `data`: `"shapes3d"`, `"dsprites"`, `"mnist"`, `"celeb_a"` or `"scenes"`;
            `beta`, `gamma` (pro-VLAE only): weights of the KL of unlocked and locked rungs;
            `fade_in` (pro-VLAE only): optimizer steps, 0 for none; default: 5000, or half a stage if that is shorter;
            `L`, `latent_dim`: rungs and latents per rung. A beta-VAE has L x latent_dim latents in one code; a
            teacher-student model grows to the same number in L stages;
            `iterations`: optimizer steps of the whole training, split evenly over the stages;
            `size`: height and width of the images, pixels;
            `seed`; and optional `batch_size`, `channels`, `dense`, `learning_rate`, `tc_weight`, `source`,
            `num_images` and `scores` (see `OPTIONAL`).
            Or `recipe`, a name or a dict of `presets.recipe`, with `seed` and optional `source`, `num_images` and
            `scores`: the recipe has the rest.

    Returns:
        A new dict with every key, in a fixed order.

    Raises:
        ValueError: If a key is missing or unknown, or a value is not allowed.
        TypeError: If the run is not a dict, or a number has another type.

    Example:
        >>> run = {"model": "VLAE", "data": "mnist", "beta": 1, "L": 3, "latent_dim": 3, "seed": 0}
        >>> complete({**run, "iterations": 900, "size": 28})["batch_size"]
        100
    """
    if not isinstance(run, Mapping):
        raise TypeError(f"A run must be a dict. Received: {run!r}.")
    if run.get("recipe") is not None:
        return _of_recipe(run)
    missing = [name for name in NEEDED if name not in run]
    unknown = [name for name in run if name not in NEEDED and name not in OPTIONAL]
    if missing or unknown:
        raise ValueError(
            f"A run has the keys {', '.join(NEEDED)} and may have {', '.join(OPTIONAL)}. "
            f"Missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        )
    run = {**OPTIONAL, **run}
    for name, known in ("model", MODELS), ("data", DATA):
        if run[name] not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}. Received: {run[name]!r}.")
    if run["model"] != "pro-VLAE":
        run["gamma"] = run["fade_in"] = None
    for least, kind in (INTEGERS, Integral), (NUMBERS, Real):
        for name in least:
            if run[name] is not None or OPTIONAL.get(name, name) is not None:
                run[name] = _checked(run, name, kind, least[name])
    if run["scores"] is not None:
        run["scores"] = _checked_scores(run["scores"])
    stage = run["iterations"] // run["L"]
    if stage < 1:
        raise ValueError(
            f"Every stage needs at least one step. Received: iterations={run['iterations']}, L={run['L']}."
        )
    if run["model"] == "pro-VLAE":
        run["gamma"] = 0.5 if run["gamma"] is None else run["gamma"]
        run["fade_in"] = min(5000, stage // 2) if run["fade_in"] is None else run["fade_in"]
        if run["fade_in"] > stage:
            raise ValueError(f"`fade_in` must not be longer than a stage, {stage} steps. Received: {run['fade_in']}.")
    size = DATA[run["data"]]
    if size % run["size"]:
        raise ValueError(f"`size` for {run['data']} must divide {size}. Received: size={run['size']}.")
    return {name: run[name] for name in (*NEEDED, *OPTIONAL)}


def _of_recipe(run):
    """A run that follows a recipe: it holds the whole recipe, as JSON has it, beside the keys of all runs."""
    name = run["recipe"]
    recipe = json.loads(json.dumps(presets.recipe(name) if isinstance(name, str) else name))
    model, training = recipe["model"], recipe["training"]
    shown = {name: model[name] for name in ("latent_dim", "beta", "gamma", "channels", "dense")}
    shown["tc_weight"] = model.get("tc_weight", 0.0)
    shown |= {"model": "pro-VLAE", "data": recipe["data"]["name"], "size": model["image_shape"][0]}
    shown |= {"L": model["num_rungs"], "fade_in": training["fade_in_steps"]}
    shown |= {name: training[name] for name in ("iterations", "batch_size")}
    shown["learning_rate"] = _first_rate(training["learning_rate"])
    other = [name for name in run if name not in OF_RECIPE and not (name in shown and run[name] == shown[name])]
    if other:
        raise ValueError(
            f"A run that follows a recipe may have the keys {', '.join(OF_RECIPE)}. Received: {', '.join(other)}."
        )
    own = {name: run[name] for name in OF_RECIPE[1:] if name in run}
    return {**complete({**shown, **own}), "recipe": recipe}


def _first_rate(points):
    return points if isinstance(points, float) else points[0][1]


def key(run: Mapping[str, Any]) -> str:
    """Returns a unique, readable file name for a run; equal runs have the same name."""
    run = complete(run)
    digest = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:10]
    return f"{run['data']}_{run['model']}_beta{run['beta']:g}_L{run['L']}_z{run['latent_dim']}_s{run['seed']}_{digest}"


def title(run: Mapping[str, Any]) -> str:
    """Returns a short title for a run."""
    strategies = ""
    if run["model"] == "pro-VLAE":
        strategies = f" gamma {run['gamma']:g} fade-in {run['fade_in']}"
    shape = f"L {run['L']} x {run['latent_dim']}"
    strategies = " recipe" if "recipe" in run else strategies
    return f"{run['model']} {run['data']} {shape} beta {run['beta']:g}{strategies} seed {run['seed']}"


def grows(run: Mapping[str, Any]) -> bool:
    """Whether the model of a run trains in stages."""
    return run["model"] in ("pro-VLAE", "teacher-student")


def stage_ends(run: Mapping[str, Any]) -> list[int]:
    """Returns the optimizer step at which each stage ends; a model that does not grow has one stage."""
    if "recipe" in run:
        return [*run["recipe"]["training"]["unlock_iterations"], run["iterations"]]
    stages = run["L"] if grows(run) else 1
    return [run["iterations"] * stage // stages for stage in range(1, stages + 1)]


def build(run: Mapping[str, Any], image_shape: tuple, dataset_size: int) -> Any:
    """Builds and compiles the model of a complete run: a recipe's, the preset, or a small ladder if it sets widths."""
    if "recipe" in run:
        return recipes.compiled_model(run["recipe"])
    settings = presets.preset(run["data"] if run["data"] in presets.PRESETS else "shapes3d")["model"]
    settings |= {"image_shape": image_shape, "num_rungs": run["L"], "beta": run["beta"]}
    widths = {name: run[name] for name in ("channels", "dense") if run[name] is not None}
    if widths:
        settings = {name: value for name, value in settings.items() if name not in PER_RUNG} | widths
    settings["latent_dim"], settings["gamma"] = run["latent_dim"], run["gamma"]
    if run["tc_weight"]:
        settings |= {"tc_weight": run["tc_weight"], "dataset_size": dataset_size}
    if run["model"] != "pro-VLAE":
        del settings["gamma"]
    if run["model"] in ("beta-VAE", "teacher-student"):
        settings = end_of_trunk(settings)
        if run["model"] == "beta-VAE":
            settings["latent_dim"] = run["L"] * run["latent_dim"]
        else:
            settings["num_rungs"] = run["L"]
    model = MODELS[run["model"]](**settings)
    optimizer = model.default_optimizer()
    if run["learning_rate"] is not None:
        optimizer.learning_rate = run["learning_rate"]
    model.compile(optimizer)
    return model


def _checked(run, name, kind, least):
    """Returns a number of the run as a plain int or float, which JSON can hold."""
    value = run[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        words = "an integer" if kind is Integral else "a number"
        raise TypeError(f"`{name}` of a run must be {words}. Received: {value!r}.")
    if not least <= value < math.inf:
        raise ValueError(f"`{name}` of a run must be finite and at least {least}. Received: {value}.")
    return int(value) if kind is Integral else float(value)


def _checked_scores(scores):
    if isinstance(scores, str) or not scores or not set(scores) <= set(metrics.GROUPS):
        raise ValueError(f"`scores` must be a list of {', '.join(metrics.GROUPS)}. Received: {scores!r}.")
    return list(scores)
