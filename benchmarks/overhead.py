"""Measures the overhead of a training: callbacks, memory over the epochs, time to the first step.

python benchmarks/overhead.py      # two to three minutes on 2 cores

Callbacks: the time in the hooks of each callback of this package, at its defaults, as a fraction of the time of `fit`,
in the training of `examples/mnist.py` (30 epochs of 60 steps). Memory: the resident set size of that process at the
ends of epochs. First step: from the start of a process to the end of the first step of the preset `mnist`.
"""

import collections
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags
from process_memory import resident

FLAGS = flags.FLAGS
flags.DEFINE_integer("epochs", 30, "Epochs of the training.", lower_bound=10)
flags.DEFINE_integer("steps_per_epoch", 60, "Optimizer steps per epoch.", lower_bound=1)
FIRST_STEP = """
import keras_provlae as kp, numpy as np
model = kp.ProgressiveVAE.from_preset("mnist")
model.compile()
model.fit(np.zeros((100, 28, 28, 1), "float32"), batch_size=100, verbose=0)
"""


def timed(callback, spent):
    """Wraps the hooks of a callback to add their seconds to `spent`."""
    name = type(callback).__name__

    def clocked(hook):
        def run(*args, **kwargs):
            begin = time.perf_counter()
            try:
                return hook(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - begin

        return run

    for hook in "train_begin", "train_end", "epoch_begin", "epoch_end", "train_batch_begin":
        setattr(callback, f"on_{hook}", clocked(getattr(callback, f"on_{hook}")))
    return callback


def measure_callbacks(folder):
    """Prints the callbacks' fractions and the memory."""
    import keras

    import keras_provlae as kp

    class Memory(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            memory.append(resident())

    memory, spent = [], collections.Counter()
    test_ds = kp.datasets.mnist("test", 100)
    callbacks = [
        kp.GrowthCallback(fade_in_steps=300),
        kp.callbacks.InformationFlow(test_ds, seed=0),
        kp.callbacks.TraversalSnapshots(f"{folder}/snapshots", test_ds, seed=0),
        kp.callbacks.CSVLogger(f"{folder}/history.csv", "mnist"),
        kp.callbacks.BackupAndRestore(f"{folder}/backup"),
    ]
    model = kp.ProgressiveVAE.from_preset("mnist")
    model.compile()
    begin = time.perf_counter()
    model.fit(
        kp.datasets.mnist("train", 100, seed=0).repeat(),
        epochs=FLAGS.epochs,
        steps_per_epoch=FLAGS.steps_per_epoch,
        verbose=0,
        callbacks=[*[timed(callback, spent) for callback in callbacks], Memory()],
    )
    whole = time.perf_counter() - begin
    print(f"fit: {whole:.1f} s, {FLAGS.epochs} epochs of {FLAGS.steps_per_epoch} steps")
    for name, seconds in spent.most_common():
        print(f"  {name:<22}{seconds:>7.2f} s {seconds / whole:>7.1%}")
    print(f"  {'total':<22}{sum(spent.values()):>7.2f} s {sum(spent.values()) / whole:>7.1%}")
    stages = [memory[FLAGS.epochs * end // 3 - 1] for end in (1, 2, 3)]
    print(f"memory at the ends of the stages: {', '.join(f'{megabytes:,.0f} MB' for megabytes in stages)}")
    half = memory[-(FLAGS.epochs // 3 - 2) :]
    print(f"memory in the last stage, from its third epoch on: {half[0]:,.0f} to {half[-1]:,.0f} MB")


def measure_first_step():
    """Prints the median seconds of three processes."""
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", FIRST_STEP], check=True, stderr=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    print(f"first step and exit of the process: {np.median(seconds):.1f} s (median of {np.round(seconds, 1)})")


def main(_):
    measure_first_step()
    with tempfile.TemporaryDirectory() as folder:
        measure_callbacks(folder)


if __name__ == "__main__":
    app.run(main)
