"""The example of scaling with a record of every step, which a test can kill: run with its flags and DIE_AT set."""

import os
import signal
from pathlib import Path

import keras
import numpy as np
import scaling
import tensorflow as tf
from absl import app, flags

import keras_provlae as kp

FLAGS = flags.FLAGS
flags.DEFINE_string("record", None, "Path without a suffix of what the process records.")
flags.DEFINE_bool("noise", True, "False decodes the means: replicas of TensorFlow draw noise of their own.")
DIE_AT = int(os.environ.get("DIE_AT", -1))


class Record(keras.callbacks.Callback):
    """One line per step: iteration, stage, alpha and the epoch's loss so far; and death before a given step."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.iteration == DIE_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_end(self, batch, logs=None):
        model = self.model
        with Path(f"{FLAGS.record}.txt").open("a") as file:
            file.write(f"{model.iteration} {model.stage} {model.alpha:.6f} {float(logs['loss']):.5f}\n")


def train():
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # a test spends its time on graphs
    if not FLAGS.noise:
        kp.layers.Sampling.call = lambda self, mean, log_var: mean
    model, history = scaling.train([Record()])
    weights = {f"weight {i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(model.trainable_variables)}
    np.savez(f"{FLAGS.record}.npz", **weights, **history)
    return model


def main(_):
    train()


if __name__ == "__main__":
    app.run(main)
