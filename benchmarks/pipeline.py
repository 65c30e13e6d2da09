"""Measures images per second of the input pipelines, compared with the training step on the same machine.

python benchmarks/pipeline.py                      # the table in docs/speed.md; about five minutes on 2 cores
python benchmarks/pipeline.py --only=shapes3d      # one data set

Images per second: `pipeline` reads the shuffled data set while nothing trains; `step` trains the preset, in its
last stage, on one batch in memory; `fit` trains it on the data set. The three alternate; the table has medians over
the rounds, and the median ratio of pipeline to step. `first batch` is the time from the end of `import
keras_provlae` to the first batch, `memory` the peak resident set size of a process that only reads minus that after
the import. Every data set runs in its own processes. `celeb_a` and `image_folder` read JPEG files of 178 x 218
that are generated first.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags
from process_memory import resident

FLAGS = flags.FLAGS
NAMES = ("shapes3d", "shapes3d 32x32", "dsprites", "dsprites 32x32", "scenes", "celeb_a", "image_folder")
flags.DEFINE_enum("only", None, NAMES, "Measure one data set.")
flags.DEFINE_integer("rounds", 3, "Alternating rounds of pipeline and step.", lower_bound=1)
flags.DEFINE_float("seconds", 3.0, "Seconds of a pipeline round.", lower_bound=0.1)
flags.DEFINE_integer("files", 2000, "Files to generate for celeb_a and image_folder.", lower_bound=200)
flags.DEFINE_enum("measure", None, ["pipeline", "speed"], "Measure here and print JSON; for internal use.")
flags.DEFINE_string("folder", None, "Folder of the files; for internal use.")


def draw_files(folder):
    """Writes smooth color pictures as JPEG files of about 8 kB, like CelebA's."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for number in range(FLAGS.files):
        small = rng.integers(0, 256, (12, 10, 3)).astype("float32")
        image = tf.cast(tf.clip_by_value(tf.image.resize(small, (218, 178), "bicubic"), 0, 255), tf.uint8)
        (folder / f"{number:06}.jpg").write_bytes(tf.io.encode_jpeg(image, quality=92).numpy())


def open_data(name, folder):
    """Returns an endless data set of batches of images, and the preset that trains on it."""
    import keras_provlae as kp

    if name == "celeb_a":
        return kp.datasets.celeb_a("train", 128, source=folder, seed=0).repeat(), "celeb_a"
    if name == "image_folder":
        return kp.datasets.image_folder(folder, 100, 64, seed=0).repeat(), "shapes3d"
    kind = name.split()[0]
    truth = kp.datasets.scenes() if kind == "scenes" else getattr(kp.datasets, kind)("procedural")
    truth = truth.downscale(2 if name.endswith("32x32") else 1)
    preset = "dsprites" if kind == "dsprites" else "shapes3d"
    return truth.tf_dataset(kp.presets.preset(preset)["training"]["batch_size"], seed=0).repeat(), preset


def measure_pipeline(name, folder):
    """Measures first batch and memory, in a process that only reads."""
    import keras_provlae as kp  # noqa: F401

    before, begin = resident(), time.perf_counter()
    ds, _ = open_data(name, folder)
    next(iter(ds))
    first = time.perf_counter() - begin
    read(ds, FLAGS.seconds)
    return {"first": first, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before}


def measure_speed(name, folder):
    """Measures images per second of the pipeline, of the training step and of both together, in alternation."""
    ds, preset = open_data(name, folder)
    batch = next(iter(ds))
    step_ds, run = training(preset, batch, ds)
    rounds = {"pipeline": [], "step": [], "both": []}
    for _ in range(FLAGS.rounds):
        rounds["pipeline"].append(read(ds, FLAGS.seconds))
        rounds["step"].append(run(step_ds))
        rounds["both"].append(run(ds))
    medians = {name: float(np.median(rates)) for name, rates in rounds.items()}
    ratios = zip(rounds["pipeline"], rounds["step"], strict=True)
    return {**medians, "ratio": float(np.median([pipeline / step for pipeline, step in ratios]))}


def training(preset, batch, ds):
    """Returns a data set that repeats one batch, and a function from a data set to images per second of training."""
    import keras
    import tensorflow as tf

    import keras_provlae as kp

    class StepTimes(keras.callbacks.Callback):
        """Records when each step ended, to exclude the start and the end of `fit`."""

        def on_train_begin(self, logs=None):
            self.times = []

        def on_train_batch_end(self, batch, logs=None):
            self.times.append(time.perf_counter())

    model = kp.ProgressiveVAE.from_preset(preset, image_shape=batch.shape[1:])
    while model.stage + 1 < model.num_rungs:
        model.grow(fade_in_steps=0)
    model.compile()
    memory = tf.data.Dataset.from_tensors(batch).repeat()
    for source in ds, memory:  # each is traced once
        model.fit(source, steps_per_epoch=2, verbose=0)
    begin = time.perf_counter()
    model.fit(memory, steps_per_epoch=2, verbose=0)
    steps = max(3, int(2 * FLAGS.seconds / (time.perf_counter() - begin)))

    def run(ds):
        seen = StepTimes()
        model.fit(ds, steps_per_epoch=steps, verbose=0, callbacks=[seen])
        return (steps - 1) * len(batch) / (seen.times[-1] - seen.times[0])

    return memory, run


def read(ds, seconds):
    """Returns images per second."""
    count, begin = 0, time.perf_counter()
    for batch in ds:
        count += len(batch)
        if time.perf_counter() - begin > seconds:
            break
    return count / (time.perf_counter() - begin)


def in_process(name, what, folder):
    """Returns what a new process measures."""
    flags_given = [f"--{flag}={FLAGS[flag].value}" for flag in ("rounds", "seconds")]
    command = [sys.executable, __file__, f"--only={name}", f"--measure={what}", f"--folder={folder}", *flags_given]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(_):
    if FLAGS.measure:
        print(
            json.dumps({"pipeline": measure_pipeline, "speed": measure_speed}[FLAGS.measure](FLAGS.only, FLAGS.folder))
        )
        return
    print(f"{'':<15}{'pipeline':>12}{'step':>11}{'ratio':>8}{'fit':>11}{'first batch':>13}{'memory':>10}")
    with tempfile.TemporaryDirectory() as folder:
        draw_files(Path(folder))
        for name in [FLAGS.only] if FLAGS.only else NAMES:
            row = {**in_process(name, "pipeline", folder), **in_process(name, "speed", folder)}
            print(
                f"{name:<15}{row['pipeline']:>10,.0f}/s{row['step']:>9,.0f}/s{row['ratio']:>8.1f}{row['both']:>9,.0f}/s"
                f"{row['first']:>11.2f} s{row['memory']:>7.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    app.run(main)
