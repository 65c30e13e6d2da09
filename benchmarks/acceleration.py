"""What each mechanism of `keras_provlae.acceleration` gains: training steps with and without it, in turn.

python benchmarks/acceleration.py                    # a table per network; some seven minutes on 2 cores
python benchmarks/acceleration.py --only=mnist --rounds=5

One process holds a model per line, all with the same weights and data. They take turns, round by round; `wall` and
`processor` are the time without a mechanism over the time with all of them, minus 1: the median over the rounds, and
the quartiles. What waits, as tf.data's autotuner does at the end of an epoch, shows in the wall time alone.
"""

import contextlib
import time
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_provlae as kp
from keras_provlae import ladder
from keras_provlae.acceleration import convolutions, step_networks

FLAGS = flags.FLAGS
PRESETS = ("mnist", "shapes3d")
flags.DEFINE_enum("only", None, PRESETS, "Measure one network.")
flags.DEFINE_integer("rounds", 21, "Rounds in which all take turns.", lower_bound=2)
flags.DEFINE_integer("steps", 10, "Steps of a turn, in one epoch.", lower_bound=2)
flags.DEFINE_integer("batch", 100, "Images in a batch.", lower_bound=2)


def plain_affine(layer, maps):
    return layer(maps)


def apart(one, other):
    return False


def as_keras(model, function):
    return function


def as_is(data):
    return data


# name: what stands in its place while the model is compiled and traced
WITHOUT = {
    "nothing": {},
    "fused_affine": {(step_networks, "affine"): plain_affine},
    "shared convolutions": {(step_networks, "_are_alike"): apart},
    "the step's decoder": {(step_networks, "decode"): ladder.decode},  # folded logits and its fused affines
    "logits as a convolution": {(convolutions, "tensorflow_on_cpu"): lambda: False},
    "step_function": {(kp.ProgressiveVAE, "train_function_of"): staticmethod(as_keras)},
    "tf_data": {(kp.ProgressiveVAE, "reads"): staticmethod(as_is)},
    "FusedAdam": {(kp.ProgressiveVAE, "default_optimizer"): lambda self: keras.optimizers.Adam(5e-4, epsilon=1e-8)},
    "all of them": {
        (kp.ProgressiveVAE, "step_wiring"): ladder,
        (kp.ProgressiveVAE, "train_function_of"): staticmethod(as_keras),
        (kp.ProgressiveVAE, "reads"): staticmethod(as_is),
    },
}


@contextlib.contextmanager
def replaced(patches):
    with contextlib.ExitStack() as stack:
        for (owner, name), value in patches.items():
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def measure(preset):
    size = 28 if preset == "mnist" else 64
    settings = {**kp.presets.preset(preset)["model"], "image_shape": (size, size, 1 if preset == "mnist" else 3)}
    noise = np.random.default_rng(0).random((FLAGS.batch, *settings["image_shape"])).astype("float32")
    data = tf.data.Dataset.from_tensors(noise).repeat(FLAGS.steps)
    models = {}
    for name, patches in WITHOUT.items():
        with replaced(patches):
            model = models[name] = kp.ProgressiveVAE(**settings)
            model.grow(fade_in_steps=0, to_stage=model.num_rungs - 1)
            model.compile()
            model.fit(data, verbose=0)
    seconds = {name: [] for name in models}
    for _ in range(FLAGS.rounds):
        for name, model in models.items():
            with replaced(WITHOUT[name]):
                begin = np.array([time.perf_counter(), time.process_time()])
                model.fit(data, verbose=0)
                seconds[name].append(np.array([time.perf_counter(), time.process_time()]) - begin)
    print(f"\n{preset}, {size} x {size}, batch {FLAGS.batch}, last stage, {FLAGS.steps} steps an epoch")
    whole = np.array(seconds["nothing"])
    for name, values in seconds.items():
        low, middle, high = np.percentile(np.array(values) / whole - 1, [25, 50, 75], axis=0)
        gains = [f"{middle[i]:+7.1%} ({low[i]:+.1%} .. {high[i]:+.1%})" for i in range(2)]
        per_step = 1e3 * np.median(np.array(values)[:, 0]) / FLAGS.steps
        print(f"without {name:24} {per_step:7.1f} ms   wall {gains[0]:27} processor {gains[1]}")


def main(_):
    for preset in PRESETS if FLAGS.only is None else [FLAGS.only]:
        measure(preset)


if __name__ == "__main__":
    app.run(main)
