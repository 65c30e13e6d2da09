"""Trains a pro-VLAE on dSprites, growing through every rung, and leaves pictures, scores and a metric card.

python examples/dsprites.py --output=output/dsprites            # 2 to 3 minutes on 2 cores, at 32 x 32
python examples/dsprites.py --output=output/dsprites --paper    # 64 x 64, 3 x 30 epochs of all 737,280 images
"""

import json
import time
from pathlib import Path

import keras
from absl import app, flags

import keras_provlae as kp

FLAGS = flags.FLAGS
flags.DEFINE_string("output", "output/dsprites", "Folder for the model, the pictures and the numbers.")
flags.DEFINE_string(
    "source", "auto",
    "Where the images come from: auto (the original if it is there without a download, else the procedural twin), "
    "procedural, tfds (downloads 26 MB), or the path of the official dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz.",
)  # fmt: skip
flags.DEFINE_bool("quick", True, "2 to 3 minutes on 2 cores: half the size, a short schedule, 20,000 images scored.")
flags.DEFINE_bool("paper", False, "The paper's schedule, at full size; scores of all images. Overrides --quick.")
flags.DEFINE_integer("epochs", None, "Epochs of the whole training; default by the schedule.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", None, "Optimiser steps per epoch; default by the schedule.", lower_bound=1)
flags.DEFINE_float("beta", None, "Weight of the KL of unlocked rungs; default by the schedule.", lower_bound=0.0)
flags.DEFINE_integer("num_images", None, "Images that are scored; default by the schedule.", lower_bound=2)
flags.DEFINE_integer("seed", 0, "Seed of the weights, the noise, the order of the images and the scores.")
flags.DEFINE_bool("resume", False, "Go on from model.keras in the output folder, with the rest of the same stream.")


def schedule():
    """What to train, for how long, and what to score: reduced or the paper's."""
    if FLAGS.paper or not FLAGS.quick:
        preset = kp.presets.preset("dsprites")
        training, beta = preset["training"], preset["model"]["beta"]
        epochs, steps = 3 * training["epochs_per_rung"], 737_280 // training["batch_size"]
        plan = {"downscale": 1, "epochs": epochs, "steps_per_epoch": steps, "fade_in_steps": 5000, "beta": beta}
        plan |= {"num_images": None, "include": None}  # all images, all scores
    else:  # a quarter of the pixels weighs less against the KL, so beta is smaller than the paper's 1
        plan = {"downscale": 2, "epochs": 30, "steps_per_epoch": 80, "fade_in_steps": 400, "beta": 0.5}
        groups = [group for group in kp.metrics.GROUPS if group != "dci"]  # a minute of boosted trees
        plan |= {"num_images": 20_000, "include": groups}
    given = {name: FLAGS[name].value for name in ("epochs", "steps_per_epoch", "beta", "num_images")}
    return {**plan, **{name: value for name, value in given.items() if value is not None}}


def train(truth, plan, output):
    """Grows a model through all of its stages in one `fit`."""
    if FLAGS.resume:
        model = keras.models.load_model(output / "model.keras")
    else:
        model = kp.ProgressiveVAE.from_preset("dsprites", image_shape=truth.image_shape, beta=plan["beta"])
        model.compile()  # Adam 5e-4, epsilon 1e-8, as in the paper
    model.fit(
        truth.tf_dataset(batch_size=128, seed=FLAGS.seed, start_step=model.iteration, repeat=True),
        epochs=plan["epochs"],
        initial_epoch=model.iteration // plan["steps_per_epoch"],
        steps_per_epoch=plan["steps_per_epoch"],
        verbose=2,
        callbacks=[
            kp.GrowthCallback(fade_in_steps=plan["fade_in_steps"], verbose=1),
            kp.callbacks.InformationFlow(truth, seed=FLAGS.seed),
            kp.callbacks.DisentanglementMonitor(truth, seed=FLAGS.seed),
            kp.callbacks.TraversalSnapshots(output / "snapshots", truth, seed=FLAGS.seed, data=truth),
            kp.callbacks.CSVLogger(output / "history.csv", data=truth, append=FLAGS.resume),
            keras.callbacks.ModelCheckpoint(output / "model.keras"),
        ],
    )
    return model


def write_pictures(model, card, truth, plan, output):
    """The report, and the paper's figures for this model as PNG files."""
    images, _ = truth.sample(200, seed=FLAGS.seed)
    figures = {
        "reconstructions": kp.visualization.reconstructions(model, images[:8], data=truth),
        "rung_samples": kp.visualization.rung_samples(model, images[:1], seed=FLAGS.seed, data=truth),
        "traversals": kp.visualization.traversals(model, images[:1], images=images, information=card, data=truth),
        "mutual_information": kp.visualization.mutual_information_heatmap(card, model.rung_slices),
        "rung_factors": kp.visualization.rung_factor_heatmap(card),
        "growth": kp.visualization.growth_timeline(output / "snapshots", data=truth),
        "training": kp.visualization.training_curves(output / "history.csv", data=truth),
    }
    about = {"card": card, "facts": {"seed of the training": FLAGS.seed, "plan": plan}, "seed": FLAGS.seed}
    files = (output / name for name in ("history.csv", "report.html", "snapshots"))
    report = kp.report.write_report(model, truth, *files, **about)
    return [report, *(kp.visualization.write_png(figure, output / f"{name}.png") for name, figure in figures.items())]


def main(_):
    begin = time.time()
    output = Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(FLAGS.seed)
    plan = schedule()
    truth = kp.datasets.dsprites(FLAGS.source).downscale(plan["downscale"])
    if FLAGS.resume and not (output / "plan.json").exists():
        raise app.UsageError(f"There is nothing to resume in {output}.")
    if FLAGS.resume and json.loads((output / "plan.json").read_text()) != plan:
        raise app.UsageError("--resume takes the flags of the run that it goes on with.")
    (output / "plan.json").write_text(json.dumps(plan))
    model = train(truth, plan, output)
    how = {"num_images": plan["num_images"], "include": plan["include"], "seed": FLAGS.seed}
    card = kp.metrics.evaluate(model, truth, **how)
    information = card.results["mutual_information"]
    print(f"\n{card}\nMIG without the shape, as published: {kp.metrics.mig(information.normalized[1:]):.4f}")
    (output / "card.json").write_text(json.dumps(card.to_dict(), indent=1))
    card.write_csv(output / "card.csv")
    pictures = write_pictures(model, card, truth, plan, output)
    print(f"\n{truth}: {model.iteration} steps, {time.time() - begin:.0f} seconds in all. Look at:")
    for path in [*pictures, *(output / name for name in ("card.json", "card.csv", "history.csv", "model.keras"))]:
        print(f"  {path}")


if __name__ == "__main__":
    app.run(main)
