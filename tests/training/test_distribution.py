"""Several devices and several processes take the steps that one device takes."""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY

NUMBERS = {"batch_size": 8, "epochs": 6, "steps_per_epoch": 2, "rungs": 2, "channels": 4, "downscale": 8}
UNLOCKED, FADE, DIE_AT = 6, 3, 9  # optimiser steps; the last file before the death is of step 8, amid the fade
STEPS = [[i, int(i > UNLOCKED), min((i - UNLOCKED) / FADE, 1) if i > UNLOCKED else 1] for i in range(1, 13)]


class Run:
    """Processes of the same training: of `examples/scaling.py`, each with a record."""

    def __init__(self, folder, name, backend, processes=1, module="distributed_run", flags=()):
        self.folder, self.name, self.backend, self.module = folder, name, backend, module
        numbers = [f"--{flag}={number}" for flag, number in NUMBERS.items()]
        self.flags = [*numbers, f"--output={folder / name}", *flags]
        if processes > 1:
            self.flags.append(f"--addresses={','.join(free_addresses(processes))}")
        self.ranks = range(processes)

    def start(self, die_at=None):
        """Starts all; the last of them dies before a step if that is given."""
        environment = {**os.environ, "KERAS_BACKEND": self.backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["PYTHONPATH"] = os.pathsep.join(map(str, [REPOSITORY, REPOSITORY / "examples"]))
        environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # JAX spends its time on compiling
        self.processes = []
        for rank in self.ranks:
            deadly = {"DIE_AT": str(die_at)} if die_at and rank == self.ranks[-1] else {}
            command = [sys.executable, "-m", f"tests.training.{self.module}", *self.flags, f"--rank={rank}"]
            with self.path(rank, "log").open("w") as log:
                record = f"--record={self.path(rank, 'npz').with_suffix('')}"
                self.processes.append(
                    subprocess.Popen([*command, record], env={**environment, **deadly}, stdout=log, stderr=log)
                )
        return self

    def finish(self):
        """The numbers that each process left."""
        with self.stopped():
            for rank, process in zip(self.ranks, self.processes, strict=True):
                assert process.wait(180) == 0, self.path(rank, "log").read_text(errors="replace")[-3000:]
        return [load(self.path(rank, "npz")) for rank in self.ranks]

    def die(self):
        """Waits for the one that dies, and stops the others: they would wait for it."""
        with self.stopped():
            assert self.processes[-1].wait(180) == -signal.SIGKILL, self.path(self.ranks[-1], "log").read_text()[-3000:]

    @contextlib.contextmanager
    def stopped(self):
        try:
            yield
        finally:
            for process in self.processes:
                process.kill()
                process.wait()

    def steps(self, rank=0):
        """Rows of iteration, stage, alpha and loss, one for each step that was taken."""
        return np.loadtxt(self.path(rank, "txt"))

    def path(self, rank, suffix):
        return self.folder / f"{self.name}_{rank}.{suffix}"


def free_addresses(number):
    with contextlib.ExitStack() as open_at_once:
        sockets = [open_at_once.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def load(path):
    with np.load(path) as file:
        return dict(file)


def assert_same(result, expected):
    """Every weight, and every log of the epochs that were run."""
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        if name == "growth_shock":
            continue  # a `fit` that was resumed has not seen the loss before the unlock
        if name.startswith("weight"):
            np.testing.assert_allclose(result[name], value, atol=1e-5, rtol=0, err_msg=name)
        elif np.ndim(value):
            ends = value[-len(result[name]) :]
            np.testing.assert_allclose(result[name], ends, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distribution")


@pytest.fixture(scope="module")
def started(folder):
    """The single processes, beside one another: JAX on one device, TensorFlow on two."""
    runs = {"tensorflow": Run(folder, "mirrored", "tensorflow", 1, "replicas_run", ("--cpus=2", "--nonoise"))}
    if importlib.util.find_spec("jax"):
        runs["jax"] = Run(folder, "alone", "jax")
    with contextlib.ExitStack() as stack:
        for run in runs.values():
            stack.enter_context(run.start().stopped())
        yield runs


@pytest.fixture(scope="module")
def mirrored(started):
    return started["tensorflow"].finish()[0]


@pytest.fixture(scope="module")
def of_replicas(mirrored, folder):
    return lambda name: load(folder / f"mirrored_0_{name}.npz")


# === TensorFlow: replicas of MirroredStrategy ===


def test_two_replicas_train_as_one(of_replicas):
    """Loss, logs and weights, though the passes end with an uneven batch, and an optimizer that sees a wrong factor."""
    one, two = of_replicas("1"), of_replicas("2")
    assert one["moved"] > 0.01
    assert_same(two, one)


def test_iteration_and_growth_count_global_steps(of_replicas):
    result = of_replicas("2")
    assert result["counters"].tolist() == [12, 12, 1, 1.0]
    assert result["stage"].tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(result["alpha"], [1, 1, 2 / 3, 1])  # three steps an epoch
    assert len(set(result["val_loss"].round(6))) == 4


def test_replicas_draw_noise_of_their_own(of_replicas):
    result = of_replicas("noise")
    drawn, single, states = result["drawn"], result["single"], result["states"]
    assert drawn.shape == (2, 2, 3, 2)  # draws, replicas, images, latents
    assert len(np.unique(drawn)) == drawn.size
    np.testing.assert_allclose(drawn[:, 0], single, rtol=1e-6)
    assert states[0, 1] == 2
    np.testing.assert_array_equal(states, states[:1].repeat(2, axis=0))  # what is saved is one state


def test_a_replica_without_an_image_is_an_error_that_says_what_to_do(of_replicas):
    message = str(of_replicas("2_error")["error"])
    assert message.startswith("Every replica must get an image of every batch that it trains on. Received: 0 images")
    assert "drop_remainder=True" in message


# === Several processes ===


def assert_steps_of_one_process(run, expected):
    """Growth and alpha at the same step in every process, and the losses of the one process."""
    for rank in run.ranks:
        np.testing.assert_allclose(run.steps(rank)[:, :3], STEPS, atol=1e-6)
        np.testing.assert_allclose(run.steps(rank)[:, 3], expected.steps()[:, 3], rtol=1e-4)


def test_workers_of_tensorflow_train_as_one_process(started, mirrored, folder):
    run = Run(folder, "workers", "tensorflow", 2, flags=["--nonoise"]).start()
    for result in run.finish():
        assert_same(result, mirrored)
    assert_steps_of_one_process(run, started["tensorflow"])


def test_a_killed_worker_of_jax_resumes_to_the_end_of_one_process(started, folder):
    """Two processes of two devices each, with noise; killed amid the fade, and started again by the same command."""
    if "jax" not in started:
        pytest.skip("jax is not installed")
    run = Run(folder, "processes", "jax", 2, flags=["--cpus=2"])
    run.start(die_at=DIE_AT).die()
    assert len(run.steps(rank=1)) == DIE_AT
    taken = {rank: run.steps(rank)[: DIE_AT - 1] for rank in run.ranks}
    results = run.start().finish()
    (alone,) = started["jax"].finish()
    for rank, result in enumerate(results):
        assert len(result["loss"]) == 2  # epochs, of 6
        assert_same(result, alone)
        rest = run.steps(rank)
        resumed = np.flatnonzero(rest[:, 0] == DIE_AT)[-1]
        np.savetxt(run.path(rank, "txt"), np.concatenate([taken[rank], rest[resumed:]]))
    assert_steps_of_one_process(run, started["jax"])
