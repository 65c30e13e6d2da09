"""The example of scaling with a record of every step, which a test can kill.

Run as a module with the flags of the example and DIE_AT set; `forked_runs` calls `train`.
"""

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
DIE_AT = int(os.environ.get("DIE_AT", -1))


class Record(keras.callbacks.Callback):
    """Writes one line per step (iteration, stage, alpha and the epoch's loss so far), and dies before a given step."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.iteration == DIE_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_end(self, batch, logs=None):
        model = self.model
        with Path(f"{FLAGS.record}.txt").open("a") as file:
            file.write(f"{model.iteration} {model.stage} {model.alpha:.6f} {float(logs['loss']):.5f}\n")


def train():
    model, history = scaling.train([Record()])
    save("", model, history)
    return model


def save(part, model, history):
    """Saves the weights, the counters and the logs."""
    weights = {f"weight {i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(model.trainable_variables)}
    counters = [model.iteration, int(keras.ops.convert_to_numpy(model.optimizer.iterations)), model.stage, model.alpha]
    np.savez(f"{FLAGS.record}{part}.npz", **weights, **history, counters=counters)


def compare_on_tensorflow():
    """Turns off what hides differences: noise of each replica's own, and Adam, which gradients of any size satisfy."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # a test spends its time on graphs
    kp.layers.Sampling.call = lambda self, mean, log_var: mean
    keras.optimizers.Adam = lambda learning_rate, epsilon: keras.optimizers.SGD(learning_rate)


def main(_):
    train()


if __name__ == "__main__":
    app.run(main)
