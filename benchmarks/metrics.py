"""Measures time and memory of the metrics, compared with a direct NumPy version of the published estimator.

python benchmarks/metrics.py                    # the table in docs/speed.md; about ten minutes on 2 cores
python benchmarks/metrics.py --sizes=10000      # one size

Every size runs in its own process. The quadrature and the published estimator alternate; the latter runs with few
draws and is scaled to 10,000, because its time is proportional to draws x rows x latents. Memory is the peak
resident set size during the quadrature minus that before it.
"""

import json
import math
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
from absl import app, flags
from process_memory import resident

import keras_provlae as kp

FLAGS = flags.FLAGS
flags.DEFINE_list("sizes", ["10000", "100000", "480000", "1000000"], "Numbers of rows.")
flags.DEFINE_integer("latents", 9, "Latents, in three rungs.", lower_bound=3)
flags.DEFINE_integer("rounds", 3, "Alternating rounds of the estimators.", lower_bound=1)
flags.DEFINE_integer("draws", 20, "Draws of the published estimator in this benchmark.", lower_bound=1)
flags.DEFINE_list("sigma", ["0.02", "0.5"], "Smallest and largest standard deviation, log-uniform.")
flags.DEFINE_bool("training", True, "Also measure the time of the callbacks in a training.")
flags.DEFINE_integer("only", 0, "Measure one size in this process and print JSON; for internal use.")

SIZES = (10, 10, 10, 8, 4, 15)  # the factors of 3DShapes
PUBLISHED_DRAWS = 10_000


def codes(rows):
    """Returns means that follow the factors of a grid of `rows` rows, log variances, and the factors."""
    rng = np.random.default_rng(0)
    index = np.arange(rows) % math.prod(SIZES)
    factors = np.stack(np.unravel_index(index if rows > 100_000 else rng.permutation(index * 4), SIZES), axis=1)
    scaled = factors / (np.array(SIZES) - 1) * 3 - 1.5
    mean = scaled[:, np.arange(FLAGS.latents) % len(SIZES)] + 0.1 * rng.standard_normal((rows, FLAGS.latents))
    low, high = np.log([float(sigma) for sigma in FLAGS.sigma])
    return mean.astype("float32"), (2 * rng.uniform(low, high, mean.shape)).astype("float32"), factors


def published(mean, log_var, factors, draws, rng):
    """Runs the estimator of Chen et al. (2018): one z per row, log q(z) over all rows, for every class."""
    z = mean + np.exp(0.5 * log_var) * rng.standard_normal(mean.shape).astype("float32")
    for rows in [slice(None), *(column == value for column in factors.T for value in np.unique(column))]:
        mu, scale = mean[rows], np.exp(-0.5 * log_var[rows])
        constant = 0.5 * (math.log(2 * math.pi) + log_var[rows])
        for code in rng.permutation(z[rows])[:draws]:
            log_density = -0.5 * ((code - mu) * scale) ** 2 - constant
            top = log_density.max(axis=0)
            np.log(np.exp(log_density - top).sum(axis=0)) + top - math.log(len(mu))


def evaluations(factors, draws):
    """Returns the number of (draw, row) pairs that the published estimator evaluates."""
    counts = [len(factors), *(count for column in factors.T for count in np.unique(column, return_counts=True)[1])]
    return sum(min(draws, count) * count for count in map(int, counts))


def peak_memory(function):
    """Returns the peak megabytes that a call adds, sampled every two milliseconds."""
    before = peak = resident()
    done = threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    function()
    done.set()
    watcher.join()
    return peak - before


def measure(rows):
    """Measures seconds and memory of one size."""
    mean, log_var, factors = codes(rows)
    rng = np.random.default_rng(0)
    memory = peak_memory(lambda: kp.metrics.mutual_information(mean, log_var, factors))
    ratios, quadrature, scaled = [], [], []
    for _ in range(FLAGS.rounds):
        begin = time.perf_counter()
        kp.metrics.mutual_information(mean, log_var, factors)
        quadrature.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        published(mean, log_var, factors, FLAGS.draws, rng)
        few = time.perf_counter() - begin
        scaled.append(few * evaluations(factors, PUBLISHED_DRAWS) / evaluations(factors, FLAGS.draws))
        ratios.append(scaled[-1] / quadrature[-1])
    begin = time.perf_counter()
    width = FLAGS.latents // 3
    kp.metrics.information_flow(mean, log_var, [(3 - i, slice(width * i, width * (i + 1))) for i in range(3)])
    return {
        "rows": rows,
        "quadrature": float(np.median(quadrature)),
        "memory": memory,
        "published": float(np.median(scaled)),
        "ratio": float(np.median(ratios)),
        "flow": time.perf_counter() - begin,
    }


class Blobs:
    """1,024 images of 28 x 28: a blob at 16 x 16 positions, in four sizes."""

    factor_names = ("x", "y", "size")

    def __len__(self):
        return 1024

    def factors(self, index):
        return np.stack(np.unravel_index(index, (16, 16, 4)), axis=1)

    def images(self, factors):
        x, y, size = np.asarray(factors, "float32").T[..., None, None]
        row, column = np.mgrid[0:28, 0:28]
        return np.exp(-((row - 4 - 1.3 * y) ** 2 + (column - 4 - 1.3 * x) ** 2) / (1.5 + size) ** 2)[..., None]


def timed(function, seconds):
    """Wraps a function to append its seconds to a list."""

    def run(*args):
        begin = time.perf_counter()
        result = function(*args)
        seconds.append(time.perf_counter() - begin)
        return result

    return run


def callbacks_share():
    """Returns each callback's time, at its defaults, as a fraction of 30 epochs of 60 steps of 100 images, 28 x 28."""
    truth = Blobs()
    images = truth.images(truth.factors(np.arange(len(truth)))).astype("float32")

    observers = [kp.callbacks.InformationFlow(images), kp.callbacks.DisentanglementMonitor(truth)]
    seconds = {type(observer).__name__: [] for observer in observers}
    for observer in observers:
        observer.measure = timed(observer.measure, seconds[type(observer).__name__])
    folder = tempfile.mkdtemp()
    snapshots = kp.callbacks.TraversalSnapshots(folder, images, log_dir=folder)
    seconds["TraversalSnapshots"] = []
    for name in "on_train_begin", "take", "write_timeline":  # everything it does
        setattr(snapshots, name, timed(getattr(snapshots, name), seconds["TraversalSnapshots"]))
    model = kp.ProgressiveVAE.from_preset("mnist")
    model.compile()
    order = np.random.default_rng(0).integers(len(images), size=60 * 100)
    begin = time.perf_counter()
    model.fit(
        images[order], batch_size=100, epochs=30, verbose=0, callbacks=[kp.GrowthCallback(), *observers, snapshots]
    )
    total = time.perf_counter() - begin
    training = total - sum(map(sum, seconds.values()))
    return {name: sum(spent) / training for name, spent in seconds.items()}


def main(_):
    if FLAGS.only:
        print(json.dumps(measure(FLAGS.only)))
        return
    print(f"{FLAGS.latents} latents, {len(SIZES)} factors, sigma {' to '.join(FLAGS.sigma)}, {FLAGS.rounds} rounds")
    print(f"{'rows':>9} {'quadrature':>11} {'memory':>8} {'published':>11} {'ratio':>8} {'information_flow':>17}")
    for size in FLAGS.sizes:
        flags_given = [f"--{name}={getattr(FLAGS, name)}" for name in ("latents", "rounds", "draws")]
        command = [sys.executable, __file__, f"--only={size}", f"--sigma={','.join(FLAGS.sigma)}", *flags_given]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        row = json.loads(output.splitlines()[-1])
        print(
            f"{row['rows']:>9} {row['quadrature']:>9.2f} s {row['memory']:>5.0f} MB {row['published']:>9.0f} s "
            f"{row['ratio']:>8.0f} {row['flow']:>15.1f} s",
            flush=True,
        )
    if FLAGS.training:
        for name, share in callbacks_share().items():
            print(f"{name}: {100 * share:.1f} % of the training time")


if __name__ == "__main__":
    app.run(main)
