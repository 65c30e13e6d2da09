"""One device against two replicas of `tf.distribute.MirroredStrategy`, on logical CPUs; run as `distributed_run`."""

import keras
import numpy as np
import tensorflow as tf
from absl import app

import keras_provlae as kp
from keras_provlae.optimizers import FusedAdam
from tests.training import distributed_run


def batches(number):
    images = np.random.default_rng(0).uniform(size=(number, 8, 8, 1)).astype("float32")
    return tf.data.Dataset.from_tensor_slices(images).batch(8)


def build(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = kp.ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=2, channels=4, dense=8)
        model.compile(FusedAdam(0.1, epsilon=1.0))  # so large that gradients of twice the size change the weights
    return model


def train(model):
    """Passes that end with five images, four for one replica and one for the other."""
    before = [v.numpy() for v in model.trainable_variables]
    validation = batches(9)  # its last image leaves nothing for the second replica
    history = model.fit(batches(21), epochs=4, validation_data=validation, callbacks=[kp.GrowthCallback()], verbose=0)
    after = [v.numpy() for v in model.trainable_variables]
    return {
        **history.history,
        **{f"weight {index}": value for index, value in enumerate(after)},
        "counters": [
            model.iteration,
            int(keras.ops.convert_to_numpy(model.optimizer.iterations)),
            model.stage,
            model.alpha,
        ],
        "moved": max(np.abs(a - b).max() for a, b in zip(after, before, strict=True)),
    }


def error_of_an_empty_part(model):
    try:
        model.fit(batches(9), verbose=0)
    except ValueError as error:
        return str(error)


def noise(strategy):
    """What each replica draws, twice, and what a single device does; the states of the noise at the end."""
    zeros = np.zeros((3, 2), "float32")
    with strategy.scope():
        sampling = kp.layers.Sampling(seed=1)

    @tf.function
    def draw():
        return strategy.run(lambda: sampling(zeros, zeros))

    drawn = [strategy.experimental_local_results(draw()) for _ in range(2)]
    states = strategy.experimental_local_results(sampling.seed_generator.state.value)
    alone = kp.layers.Sampling(seed=1)
    single = [alone(zeros, zeros).numpy() for _ in range(2)]
    return {"drawn": drawn, "single": single, "states": [state.numpy() for state in states]}


def main(_):
    sampling = kp.layers.Sampling.call
    # this makes the logical CPUs and turns the noise off; of two strategies one would receive the other's collectives
    strategy = distributed_run.train().distribute_strategy
    path = distributed_run.FLAGS.record
    for replicas, its_strategy in enumerate((tf.distribute.get_strategy(), strategy), 1):
        model = build(its_strategy)
        np.savez(f"{path}_{replicas}.npz", **train(model))
    np.savez(f"{path}_2_error.npz", error=error_of_an_empty_part(model))
    kp.layers.Sampling.call = sampling
    np.savez(f"{path}_noise.npz", **noise(strategy))


if __name__ == "__main__":
    app.run(main)
