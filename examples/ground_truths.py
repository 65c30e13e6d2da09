"""Trains a pro-VLAE on dSprites or 3DShapes through all of its stages; writes pictures, a report and a metric card.

python examples/ground_truths.py --data=shapes3d            # or dsprites; 2 to 3 minutes on 2 cores, at 32 x 32
python examples/ground_truths.py --data=shapes3d --recipe   # 32 x 32, some 15 minutes: our way to a higher MIG
python examples/ground_truths.py --data=shapes3d --paper    # 64 x 64, 3 x 15 epochs of all 480,000 images
"""

import json
import time
from pathlib import Path

import keras
from absl import app, flags

import keras_provlae as kp

FLAGS = flags.FLAGS
flags.DEFINE_enum("data", "shapes3d", ["dsprites", "shapes3d"], "The data set.")
flags.DEFINE_string("output", None, "Folder for the model, the pictures and the numbers; default output/<data>.")
flags.DEFINE_string(
    "source", "auto",
    "auto (the original if it is on this machine, else the procedural twin), procedural, tfds (downloads 26 MB for "
    "dSprites, 255 MB for 3DShapes), or the path of the official npz or h5 file.",
)  # fmt: skip
flags.DEFINE_bool("quick", True, "2 to 3 minutes on 2 cores: half the size, a short schedule, 20,000 images scored.")
flags.DEFINE_bool("paper", False, "The paper's size and schedule, all images scored. Overrides --quick.")
flags.DEFINE_bool("recipe", False, "The recipe of `presets.recipe` for these data; with --paper: 3DShapes at 64 x 64.")
flags.DEFINE_integer("epochs", None, "Epochs of the whole training; default: the schedule's.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", None, "Optimizer steps per epoch; default: the schedule's.", lower_bound=1)
flags.DEFINE_float("beta", None, "KL weight of unlocked rungs; default: the schedule's.", lower_bound=0.0)
flags.DEFINE_integer("num_images", None, "Number of images to score; default: the schedule's.", lower_bound=2)
flags.DEFINE_integer("seed", 0, "Seed of the weights, the noise, the order of the images and the scores.")
flags.DEFINE_bool("resume", False, "Continue from model.keras in the output folder, with the rest of the same stream.")


def schedule(preset, recipe=None):
    """Returns what to train, for how long, and what to score."""
    training, beta = preset["training"], preset["model"]["beta"]
    groups = [group for group in kp.metrics.GROUPS if group != "dci"]  # a minute of boosted trees
    if recipe:
        steps = recipe["training"]["iterations"]
        plan = {"downscale": recipe["data"]["downscale"], "epochs": steps // 400, "steps_per_epoch": 400}
        plan |= {"recipe": recipe["training"], "num_images": 20_000, "include": groups}
    elif FLAGS.paper or not FLAGS.quick:
        steps = {"dsprites": 737_280, "shapes3d": 480_000}[FLAGS.data] // training["batch_size"]
        plan = {"downscale": 1, "epochs": 3 * training["epochs_per_rung"], "steps_per_epoch": steps, "beta": beta}
        plan |= {"fade_in_steps": 5000, "num_images": None, "include": None}  # all images, all scores
    else:  # a quarter of the pixels weigh less against the KL, so beta is half of the paper's
        plan = {"downscale": 2, "epochs": 30, "steps_per_epoch": 80, "fade_in_steps": 400, "beta": beta / 2}
        plan |= {"num_images": 20_000, "include": groups}
    given = {name: FLAGS[name].value for name in ("epochs", "steps_per_epoch", "beta", "num_images")}
    return plan | {name: value for name, value in given.items() if value is not None}


def train(truth, plan, batch_size, output, recipe=None):
    """Grows a model through all of its stages in one `fit`."""
    if FLAGS.resume:
        model = keras.models.load_model(output / "model.keras")
    elif recipe:
        model = kp.recipes.compiled_model(recipe)
    else:
        model = kp.ProgressiveVAE.from_preset(FLAGS.data, image_shape=truth.image_shape, beta=plan["beta"])
        model.compile()  # Adam 5e-4, epsilon 1e-8, as in the paper
    if recipe:
        guidance = kp.recipes.fit_callbacks(recipe, verbose=1)
    else:
        guidance = [kp.GrowthCallback(fade_in_steps=plan["fade_in_steps"], verbose=1)]
    model.fit(
        truth.tf_dataset(batch_size, seed=FLAGS.seed, start_step=model.iteration, repeat=True),
        epochs=plan["epochs"],
        initial_epoch=model.iteration // plan["steps_per_epoch"],
        steps_per_epoch=plan["steps_per_epoch"],
        verbose=2,
        callbacks=[
            *guidance,
            kp.callbacks.InformationFlow(truth, seed=FLAGS.seed),
            kp.callbacks.DisentanglementMonitor(truth, seed=FLAGS.seed),
            kp.callbacks.TraversalSnapshots(output / "snapshots", truth, seed=FLAGS.seed, data=truth),
            kp.callbacks.CSVLogger(output / "history.csv", data=truth, append=FLAGS.resume),
            keras.callbacks.ModelCheckpoint(output / "model.keras"),
        ],
    )
    return model


def write_pictures(model, card, truth, plan, output):
    """Writes the report, and the paper's figures for this model as PNG files; returns their paths."""
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
    output = Path(FLAGS.output or f"output/{FLAGS.data}")
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(FLAGS.seed)
    preset = kp.presets.preset(FLAGS.data)
    if FLAGS.recipe and FLAGS.beta is not None:
        raise app.UsageError("--recipe sets beta for every stage: leave --beta out.")
    name = f"{FLAGS.data}_64" if FLAGS.paper else FLAGS.data
    if FLAGS.recipe and name not in kp.presets.RECIPES:
        raise app.UsageError(f"There is no recipe for {FLAGS.data} at the paper's size: leave --paper out.")
    recipe = kp.presets.recipe(name) if FLAGS.recipe else None
    plan = json.loads(json.dumps(schedule(preset, recipe)))  # as plan.json has it
    truth = getattr(kp.datasets, FLAGS.data)(FLAGS.source).downscale(plan["downscale"])
    started = output / "plan.json"
    if FLAGS.resume and not (started.exists() and json.loads(started.read_text()) == plan):
        raise app.UsageError(f"--resume needs a run with the same flags in {output}.")
    started.write_text(json.dumps(plan))
    batch_size = (recipe or preset)["training"]["batch_size"]
    model = train(truth, plan, batch_size, output, recipe)
    card = kp.metrics.evaluate(model, truth, num_images=plan["num_images"], include=plan["include"], seed=FLAGS.seed)
    print(f"\n{card}")
    if FLAGS.data == "dsprites":  # the published MIG leaves out the first factor
        normalized = card.results["mutual_information"].normalized
        print(f"MIG without the shape, as published: {kp.metrics.mig(normalized[1:]):.4f}")
    (output / "card.json").write_text(json.dumps(card.to_dict(), indent=1))
    card.write_csv(output / "card.csv")
    pictures = write_pictures(model, card, truth, plan, output)
    print(f"\n{truth}: {model.iteration} steps, {time.time() - begin:.0f} seconds in all. Look at:")
    for path in [*pictures, *(output / name for name in ("card.json", "card.csv", "history.csv", "model.keras"))]:
        print(f"  {path}")


if __name__ == "__main__":
    app.run(main)
