"""Trains a pro-VLAE of four rungs on CelebA through all of its stages; writes pictures, a report and numbers.

python examples/celeb_a.py --data_dir=CelebA --output=output/celeb_a            # a few minutes on 2 cores, at 32 x 32
python examples/celeb_a.py --data_dir=CelebA --output=output/celeb_a --paper    # 64 x 64, 4 x 5 epochs of all images

The images are not included. Either download img_align_celeba.zip, list_eval_partition.txt and list_attr_celeba.txt from
https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, unpack the zip file into a folder with both lists, and pass it as
--data_dir; or run `tfds build celeb_a` once and omit --data_dir. Any other folder of images works too.
"""

import time
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

import keras_provlae as kp

FLAGS = flags.FLAGS
flags.DEFINE_string("output", "output/celeb_a", "Folder for the model, the pictures and the numbers.")
flags.DEFINE_string(
    "data_dir", "auto", "Folder with the images; auto: the data prepared by tfds, or ~/.keras/datasets."
)
flags.DEFINE_bool("quick", True, "A few minutes on 2 cores: half the size, a quarter of the widths, a short schedule.")
flags.DEFINE_bool("paper", False, "The paper's network, size and schedule. Overrides --quick.")
flags.DEFINE_integer("epochs", None, "Epochs of the whole training; default: the schedule's.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", None, "Optimizer steps per epoch; default: the schedule's.", lower_bound=1)
flags.DEFINE_float("beta", None, "KL weight of unlocked rungs; default: the schedule's.", lower_bound=0.0)
flags.DEFINE_integer("seed", 0, "Seed of the weights, the noise and the order of the images.")
flags.DEFINE_bool("skip_bad_images", False, "Skip files that cannot be decoded, with a warning.")


def quarter(widths):
    """Divides nested channels or units by four; leaves strides as they are."""
    if isinstance(widths, int):
        return widths // 4
    if len(widths) == 2 and widths[1] in (1, 2):  # (channels, stride)
        return widths[0] // 4, widths[1]
    return tuple(quarter(width) for width in widths)


def schedule(train_batches):
    """Returns what to train and for how long."""
    preset = kp.presets.preset("celeb_a")
    if FLAGS.paper or not FLAGS.quick:
        epochs = preset["model"]["num_rungs"] * preset["training"]["epochs_per_rung"]
        plan = {"epochs": epochs, "steps_per_epoch": train_batches, "fade_in_steps": 5000, "beta": 1.0, "model": {}}
    else:  # a quarter of the pixels weigh less against the KL, so beta is half of the paper's
        widths = ("channels", "head_convs", "head_dense", "map_dense", "decoder_convs")
        model = {name: quarter(preset["model"][name]) for name in widths}
        plan = {"epochs": 32, "steps_per_epoch": 50, "fade_in_steps": 200, "beta": 0.5, "model": model}
    given = {name: FLAGS[name].value for name in ("epochs", "steps_per_epoch", "beta")}
    return {**plan, **{name: value for name, value in given.items() if value is not None}}


def data_name():
    """Returns the data's name for titles and CSV files: only CelebA is called celeb_a."""
    return "celeb_a" if FLAGS.data_dir in ("auto", "tfds") else Path(FLAGS.data_dir).name


def train(plan, train_ds, test_images, output):
    """Grows a model through all of its stages in one `fit`."""
    shape = tuple(train_ds.element_spec.shape[1:])
    model = kp.ProgressiveVAE.from_preset("celeb_a", image_shape=shape, beta=plan["beta"], **plan["model"])
    model.compile()  # Adam 5e-4, epsilon 1e-8, as in the paper
    history = model.fit(
        train_ds.repeat(),
        epochs=plan["epochs"],
        steps_per_epoch=plan["steps_per_epoch"],
        verbose=2,
        callbacks=[
            kp.GrowthCallback(fade_in_steps=plan["fade_in_steps"], verbose=1),
            kp.callbacks.InformationFlow(test_images, seed=FLAGS.seed),
            kp.callbacks.TraversalSnapshots(output / "snapshots", test_images, seed=FLAGS.seed, data=data_name()),
            kp.callbacks.CSVLogger(output / "history.csv", data=data_name()),
            keras.callbacks.ModelCheckpoint(output / "model.keras"),
        ],
    )
    return model, history.history


def main(_):
    begin = time.time()
    output = Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(FLAGS.seed)
    size = 64 if FLAGS.paper or not FLAGS.quick else 32
    how = {"source": FLAGS.data_dir, "image_size": size, "on_bad_image": "skip" if FLAGS.skip_bad_images else "error"}
    train_ds = kp.datasets.celeb_a("train", 128 if size == 64 else 50, seed=FLAGS.seed, **how)
    test_ds = kp.datasets.celeb_a("test", 128, **how)
    test_images = np.concatenate(list(test_ds.take(8).as_numpy_iterator()))[:1000]
    model, history = train(schedule(len(train_ds)), train_ds, test_images, output)

    images, data = test_images[:8], f"{data_name()} {size}x{size}"
    figures = {
        "reconstructions": kp.visualization.reconstructions(model, images, data=data),
        "rung_samples": kp.visualization.rung_samples(model, images[:1], n=36, seed=FLAGS.seed, data=data),
        "traversals": kp.visualization.traversals(model, images[:1], data=data),
        "growth": kp.visualization.growth_timeline(output / "snapshots", data=data),
        "training": kp.visualization.training_curves(history, data=data),
    }
    pictures = [kp.visualization.write_png(figure, output / f"{name}.png") for name, figure in figures.items()]
    files = (output / name for name in ("report.html", "snapshots"))
    report = kp.report.write_report(model, test_images, history, *files, data_name=data, seed=FLAGS.seed)
    scores = model.evaluate(test_ds, verbose=0, return_dict=True)
    print(f"\nTest images, in nats per image, at stage {model.stage} with alpha {model.alpha:g}:")
    for name in "elbo", "reconstruction", *(f"kl_rung_{rung}" for rung, _ in model.rung_slices):
        print(f"  {name:<16}{scores[name]:9.2f}")
    print(f"I(x; z_l) in nats, estimated on {len(test_images)} test images (at most {np.log(len(test_images)):.2f}):")
    for name in *(f"mi_rung_{rung}" for rung, _ in model.rung_slices), "mi_total", "i_over":
        print(f"  {name:<16}{history[name][-1]:9.2f}")
    print(f"{model.iteration} steps in {time.time() - begin:.0f} seconds. Look at:")
    for path in [report, *pictures, output / "history.csv", output / "model.keras"]:
        print(f"  {path}")


if __name__ == "__main__":
    app.run(main)
