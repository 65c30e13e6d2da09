"""Writes the weights and the card of a pretrained preset from the finished runs of its recipe.

python tools/make_pretrained.py shapes3d_32 output/experiments/small     # a folder of `keras_provlae.experiments`

Takes the seed with the highest MIG (of data without factors: the first seed); the card lists all of them.
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


def main(name, folder):
    recipe = next((recipe for recipe in kp.presets.RECIPES.values() if recipe["preset"] == name), None)
    if recipe is None:
        sys.exit(f"No recipe makes {name}.")
    recipe = json.loads(json.dumps(recipe))
    found = [result for result in read_results(folder).values() if result["run"].get("recipe") == recipe]
    if not found:
        sys.exit(f"{folder} has no finished run of this recipe.")
    best = max(found, key=lambda result: result["scores"].get("mig", -result["run"]["seed"]))
    model = keras.saving.load_model(Path(folder) / "models" / runs.key(best["run"]) / "model.keras")
    data = sources.load(best["run"])
    about = {
        "description": recipe["description"],
        "recipe": recipe,
        "seed": best["run"]["seed"],
        "data": str(data.truth),
    }
    about |= {"seconds": best["seconds"], "machine": best["machine"], "versions": best["versions"], "licence": LICENCE}
    about["all_seeds"] = {result["run"]["seed"]: result["scores"] for result in found}
    about["reconstruction"], about["information"] = best["reconstruction"], best["stages"][-1]["mi"]
    model.preset, about["metrics"] = name, None
    if data.has_factors:
        card = kp.metrics.evaluate(model, data.truth, num_images=ROWS, seed=0)
        model.latent_names = latent_names(card.results["mutual_information"])
        about["metrics"] = card.to_dict()
        every = kp.metrics.evaluate(model, data.truth, include=["mutual_information"], seed=0)
        about["all_images"] = {score: round(float(value), 4) for score, value in every.items()} | {
            "rows": len(data.truth)
        }
    kp.pretrained.save(model, name, about)
    loaded = kp.ProgressiveVAE.from_preset(name, load_weights=True)
    images, _ = data.truth.sample(100, seed=0)
    difference = np.abs(loaded.encode(images)[0] - model.encode(images)[0]).max()
    print(f"{name}: seed {about['seed']}, largest change of a mean by float16 {difference:.4f}, {loaded.latent_names}")


if __name__ == "__main__":
    main(*sys.argv[1:])
