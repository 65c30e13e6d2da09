"""Trains a pro-VLAE on every available device, in one process or several; see docs/how-to/scale.md.

python examples/scaling.py --output=output/scaling      # every GPU of this machine; --cpus=2 to try it without
KERAS_BACKEND=jax python examples/scaling.py --addresses=10.0.0.1:29500,10.0.0.2:29500 --rank=0    # on the first host
KERAS_BACKEND=jax python examples/scaling.py --addresses=10.0.0.1:29500,10.0.0.2:29500 --rank=1    # on the second
"""

import contextlib
import json
import os
from pathlib import Path

import keras
import tensorflow as tf
from absl import app, flags

import keras_provlae as kp

FLAGS = flags.FLAGS
flags.DEFINE_string("output", "output/scaling", "Folder for the weights, readable by every process.")
flags.DEFINE_list("addresses", [], "host:port of every process, in order; empty for one process.")
flags.DEFINE_integer("rank", 0, "Index of this process in --addresses.", lower_bound=0)
flags.DEFINE_integer("cpus", None, "Devices to split the CPU into; in TensorFlow only with one process.", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "Images per step, summed over the devices.", lower_bound=1)
flags.DEFINE_integer("epochs", 30, "Epochs of the whole training, shared by the rungs.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", 80, "Optimizer steps per epoch.", lower_bound=1)
flags.DEFINE_integer("fade_in_steps", 400, "Optimizer steps of a fade-in.", lower_bound=0)
flags.DEFINE_float("learning_rate", 5e-4, "Learning rate of Adam.")
flags.DEFINE_integer("rungs", 3, "Number of rungs.", lower_bound=1)
flags.DEFINE_integer("channels", 64, "Width of the networks.", lower_bound=1)
flags.DEFINE_integer("downscale", 2, "Factor by which the 64 x 64 images are downscaled.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the weights, the noise and the order of the images; the same for all.")


def on_jax():
    """Sets up one mesh of all devices; returns the scope to build in and a function that distributes a data set."""
    import jax

    if FLAGS.cpus:
        jax.config.update("jax_num_cpu_devices", FLAGS.cpus)
    processes = max(len(FLAGS.addresses), 1)
    if processes > 1:
        keras.distribution.initialize(",".join(FLAGS.addresses), processes, FLAGS.rank)
    # the data set is sharded by `read`: Keras's sharding would make every process read everything
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    return contextlib.nullcontext(), lambda read: read((FLAGS.rank, processes))


def on_tensorflow():
    """Does the same with a `tf.distribute` strategy."""
    if FLAGS.cpus:
        device = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * FLAGS.cpus)
    if FLAGS.addresses:
        cluster = {"cluster": {"worker": FLAGS.addresses}, "task": {"type": "worker", "index": FLAGS.rank}}
        os.environ["TF_CONFIG"] = json.dumps(cluster)
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])

    def part(context, read):
        ds = read((context.input_pipeline_id, context.num_input_pipelines))
        return ds.rebatch(FLAGS.batch_size // strategy.num_replicas_in_sync)  # one batch for each replica

    return strategy.scope(), lambda read: strategy.distribute_datasets_from_function(lambda c: part(c, read))


class Keep(keras.callbacks.Callback):
    """Saves weights, stage, noise and optimizer at the end of every epoch, in one file written by rank 0."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        mine = self.path.with_name(f"of_{FLAGS.rank}.weights.h5")
        self.model.save_weights(mine)  # in every process: TensorFlow's read the metrics together
        if FLAGS.rank == 0:
            mine.replace(self.path)  # atomic: a process killed while writing leaves the last file intact
        else:
            mine.unlink()


def train(callbacks=()):
    """Trains, resuming from the weights of a killed run of the same command."""
    scope, distributed = on_jax() if keras.backend.backend() == "jax" else on_tensorflow()
    truth = kp.datasets.scenes().downscale(FLAGS.downscale)
    with scope:
        keras.utils.set_random_seed(FLAGS.seed)
        model = kp.ProgressiveVAE(truth.image_shape, FLAGS.rungs, latent_dim=3, channels=FLAGS.channels)
        model.compile(keras.optimizers.Adam(FLAGS.learning_rate, epsilon=1e-8))
    kept = Path(FLAGS.output) / "run.weights.h5"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if kept.exists():
        model.load_weights(kept)

    def read(shard):
        stream = {"start_step": model.iteration, "repeat": True, "drop_remainder": True}
        return truth.tf_dataset(FLAGS.batch_size, seed=FLAGS.seed, shard=shard, **stream)

    history = model.fit(
        distributed(read),
        epochs=FLAGS.epochs,
        initial_epoch=model.iteration // FLAGS.steps_per_epoch,
        steps_per_epoch=FLAGS.steps_per_epoch,
        verbose=2 if FLAGS.rank == 0 else 0,
        callbacks=[kp.GrowthCallback(fade_in_steps=FLAGS.fade_in_steps, verbose=1), Keep(kept), *callbacks],
    )
    print(f"Process {FLAGS.rank}: {model.iteration} steps, stage {model.stage}, alpha {model.alpha}; see {kept}")
    return model, history.history


def main(_):
    train()


if __name__ == "__main__":
    app.run(main)
