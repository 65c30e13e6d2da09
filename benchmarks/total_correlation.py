"""Compares two estimates of the total correlation: from the batch alone, and with a queue of the last posteriors.

python benchmarks/total_correlation.py          # some six minutes on one core

Trains stage 0 of the recipe for 3DShapes with each, in turn, on the same seeds, and prints how far the hues are apart
(MIG-sup of the deepest rung), the estimate, and the time of a step.
"""

import time

import keras
import numpy as np
from absl import app, flags
from keras import ops

import keras_provlae as kp

FLAGS = flags.FLAGS
flags.DEFINE_list("seeds", ["100", "101"], "Seeds.")
flags.DEFINE_integer("steps", 2000, "Optimizer steps of each training.", lower_bound=1)
flags.DEFINE_integer("every", 500, "Optimizer steps between scores.", lower_bound=1)
flags.DEFINE_integer("queue", 900, "Posteriors in the queue.", lower_bound=1)


class Queued(kp.ProgressiveVAE):
    """The aggregate posterior from the batch and the posteriors of the batches before it, which get no gradient."""

    def build(self, input_shape):
        super().build(input_shape)
        latents = sum(self.rung_widths)
        how = {"shape": (FLAGS.queue, latents), "initializer": "zeros", "trainable": False, "dtype": "float32"}
        self.means, self.log_vars = (self.add_weight(name=name, **how) for name in ("means", "log_vars"))

    def further_terms(self, images, y_pred):
        codes, mean, log_var = (y_pred[name] for name in ("codes", "mean", "log_var"))
        means, log_vars = (
            ops.concatenate([new, ops.convert_to_tensor(old)])
            for new, old in ((mean, self.means), (log_var, self.log_vars))
        )
        squares = ops.square(codes[:, None] - means[None]) * ops.exp(-log_vars)[None]
        log_density = -0.5 * (squares + log_vars[None] + np.log(2 * np.pi)) * self.per_latent(self.unlocked())
        batch, others = codes.shape[0], means.shape[0] - 1
        own = np.eye(batch, others + 1, dtype="float32")
        weights = own / self.dataset_size + (1 - own) * (1 - 1 / self.dataset_size) / others
        log_weights = ops.log(ops.convert_to_tensor(weights))
        joint = ops.logsumexp(log_weights + ops.sum(log_density, axis=-1), axis=1)
        marginals = ops.sum(ops.logsumexp(log_weights[..., None] + log_density, axis=1), axis=-1)
        self.means.assign(ops.stop_gradient(means)[: FLAGS.queue])
        self.log_vars.assign(ops.stop_gradient(log_vars)[: FLAGS.queue])
        return {"tc_estimate": ops.mean(joint - marginals)}


def main(_):
    recipe, truth = kp.presets.recipe("shapes3d"), kp.datasets.shapes3d("procedural").downscale(2)
    print("estimate  seed  steps  MIG-sup   MIG  tc_estimate  ms a step")
    for seed in map(int, FLAGS.seeds):
        for name, made in ("batch", kp.ProgressiveVAE), ("queue", Queued):
            keras.utils.set_random_seed(seed)
            model = made(**recipe["model"])
            model.compile(kp.optimizers.adam(1e-3, epsilon=1e-8))
            for _ in range(FLAGS.steps // FLAGS.every):
                ds = truth.tf_dataset(100, seed=seed, start_step=model.iteration, repeat=True)
                begin = time.perf_counter()
                logs = model.fit(ds.map(lambda x: keras.ops.reshape(x, (100, *truth.image_shape))), verbose=0,
                                 steps_per_epoch=FLAGS.every).history  # fmt: skip
                step = (time.perf_counter() - begin) / FLAGS.every
                card = kp.metrics.evaluate(
                    model, truth, num_images=12_000, include=["mutual_information"], progress=False
                )
                scores = f"{card['mig_sup']:7.3f} {card['mig']:5.3f}  {logs['tc_estimate'][-1]:11.2f}"
                print(f"{name:8}  {seed:4}  {model.iteration:5}  {scores}  {1000 * step:9.0f}", flush=True)


if __name__ == "__main__":
    app.run(main)
