"""Trainings on one device, on two replicas and by two workers, in processes forked from one that imported TensorFlow.

python -m tests.training.forked_runs NAME [FLAG ...] [+ NAME [FLAG ...]] ...

The names are one, two, worker0 and worker1; the flags are those of `distributed_run`. Each run writes `NAME.log` and
its records into the working directory. Prints the exit codes.
"""

import json
import os
import signal
import sys
import traceback

import numpy as np
import tensorflow as tf

import keras_provlae as kp
from tests.training import distributed_run

LONGEST = 400  # seconds


def run(name, flags):
    signal.alarm(LONGEST)  # a process that waits for another one that has died
    log = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    distributed_run.FLAGS([name, *flags, f"--record={name}"])
    sampling = kp.layers.Sampling.call
    distributed_run.compare_on_tensorflow()
    tf.config.run_functions_eagerly(name == "one")  # a few eager steps cost less than their traces
    model = distributed_run.train()
    if "worker" in name:
        return
    distributed_run.save("_uneven", model, uneven_passes(model))
    if name == "two":
        np.savez("two_error.npz", error=error_of_an_empty_part(model))
        kp.layers.Sampling.call = sampling
        np.savez("two_noise.npz", **noise(model.distribute_strategy))


def batches(number):
    images = np.random.default_rng(0).uniform(size=(number, 8, 8, 3)).astype("float32")
    return tf.data.Dataset.from_tensor_slices(images).batch(8)


def uneven_passes(model):
    """Logs of a training pass that ends with five images, four for one replica and one for the other.

    The last image of the validation pass leaves nothing for the second replica.
    """
    return model.fit(batches(13), validation_data=batches(9), verbose=0).history


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


def main(arguments):
    runs, children = [[]], {}
    for argument in arguments:
        if argument == "+":
            runs.append([])
        else:
            runs[-1].append(argument)
    for name, *flags in runs:
        child = os.fork()  # TensorFlow has started no thread of its own yet
        if child == 0:
            try:
                run(name, flags)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children[name] = child
    codes = {name: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for name, child in children.items()}
    print(json.dumps(codes))


if __name__ == "__main__":
    main(sys.argv[1:])
