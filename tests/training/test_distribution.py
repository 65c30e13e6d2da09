"""Several devices and several processes take the steps that one device takes."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY

NUMBERS = {"batch_size": 8, "epochs": 6, "steps_per_epoch": 2, "rungs": 2, "channels": 4, "downscale": 8}
ON_TENSORFLOW = {**NUMBERS, "epochs": 3, "learning_rate": 1e-3}
DIE_AT = 9  # optimizer steps; the last file before the death is of step 8, mid-fade


def environment(backend):
    paths = os.pathsep.join(map(str, [REPOSITORY, REPOSITORY / "examples"]))
    variables = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths}
    variables["TF_NUM_INTRAOP_THREADS"] = "1"  # tiny maps: more threads only wait
    fast = "--xla_backend_optimization_level=0"  # JAX spends its time on compiling
    return {**os.environ, **variables, "XLA_FLAGS": fast}


class Run:
    """Processes of one training by `examples/scaling.py`, each with a record."""

    def __init__(self, folder, name, backend, processes=1, flags=()):
        self.folder, self.name, self.backend = folder, name, backend
        numbers = [f"--{flag}={number}" for flag, number in NUMBERS.items()]
        self.flags = [*numbers, f"--output={folder / name}", *flags]
        if processes > 1:
            self.flags.append(f"--addresses={','.join(free_addresses(processes))}")
        self.ranks = range(processes)

    def start(self, die_at=None):
        """Starts all; the last of them dies before a step if that is given."""
        self.processes = []
        for rank in self.ranks:
            deadly = {"DIE_AT": str(die_at)} if die_at and rank == self.ranks[-1] else {}
            command = [sys.executable, "-m", "tests.training.distributed_run", *self.flags, f"--rank={rank}"]
            with self.path(rank, "log").open("w") as log:
                record = f"--record={self.path(rank, 'npz').with_suffix('')}"
                self.processes.append(
                    subprocess.Popen(
                        [*command, record], env={**environment(self.backend), **deadly}, stdout=log, stderr=log
                    )
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


def assert_steps(steps, expected, unlocked, fade):
    """Growth and alpha at the steps where they are due, and the losses of the one process."""
    numbers = np.arange(1, len(expected) + 1)
    since = numbers - unlocked
    np.testing.assert_array_equal(steps[:, 0], numbers)
    np.testing.assert_array_equal(steps[:, 1], since > 0)
    np.testing.assert_allclose(steps[:, 2], np.where(since > 0, np.minimum(since / fade, 1), 1), atol=1e-6)
    np.testing.assert_allclose(steps[:, 3], expected[:, 3], rtol=1e-4)


# === TensorFlow: replicas of MirroredStrategy, and several processes ===


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The same training on one device, on two replicas and by two workers: a function from names to records."""
    folder = tmp_path_factory.mktemp("tensorflow")
    numbers = [f"--{flag}={number}" for flag, number in ON_TENSORFLOW.items()]
    workers = f"--addresses={','.join(free_addresses(2))}"
    runs = {"one": [], "two": ["--cpus=2"], "worker0": [workers, "--rank=0"], "worker1": [workers, "--rank=1"]}
    arguments = []
    for name, flags in runs.items():
        arguments += ["+", name, *numbers, *flags, f"--output={name.strip('01')}"]
    command = [sys.executable, "-m", "tests.training.forked_runs", *arguments[1:]]
    done = subprocess.run(command, cwd=folder, env=environment("tensorflow"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, code in json.loads(done.stdout).items():
        assert code == 0, (folder / f"{name}.log").read_text(errors="replace")[-3000:]
    return lambda name: np.loadtxt(folder / name) if name.endswith(".txt") else load(folder / f"{name}.npz")


def test_two_replicas_train_as_one(records):
    """Loss, logs, counters and weights, though the later passes end with an uneven batch."""
    assert_same(records("two"), records("one"))
    assert_same(records("two_uneven"), records("one_uneven"))
    assert_steps(records("two.txt"), records("one.txt"), unlocked=2, fade=2)
    moved = [np.abs(value - records("one")[name]).max() for name, value in records("one_uneven").items() if "w" in name]
    assert max(moved) > 1e-3


def test_iteration_and_growth_count_global_steps(records):
    assert records("two")["counters"].tolist() == [6, 6, 1, 1.0]
    assert records("two_uneven")["counters"].tolist() == [8, 8, 1, 1.0]
    assert records("two")["stage"].tolist() == [0, 1, 1]
    assert records("two")["alpha"].tolist() == [1, 0.5, 1]


def test_replicas_draw_noise_of_their_own(records):
    result = records("two_noise")
    drawn, single, states = result["drawn"], result["single"], result["states"]
    assert drawn.shape == (2, 2, 3, 2)  # draws, replicas, images, latents
    assert len(np.unique(drawn)) == drawn.size
    np.testing.assert_allclose(drawn[:, 0], single, rtol=1e-6)
    assert states[0, 1] == 2
    np.testing.assert_array_equal(states, states[:1].repeat(2, axis=0))  # what is saved is one state


def test_a_replica_without_an_image_is_an_error_that_says_what_to_do(records):
    message = str(records("two_error")["error"])
    assert message.startswith("Every replica must get an image of every batch that it trains on. Received: 0 images")
    assert "drop_remainder=True" in message


def test_workers_train_as_one_process(records):
    for name in "worker0", "worker1":
        assert_same(records(name), records("one"))
        assert_steps(records(f"{name}.txt"), records("one.txt"), unlocked=2, fade=2)


# === JAX: several processes ===


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_a_killed_worker_of_jax_resumes_to_the_end_of_one_process(tmp_path):
    """Two processes of two devices each, with noise; killed mid-fade, and started again by the same command."""
    alone = Run(tmp_path, "alone", "jax")
    (expected,) = alone.start().finish()
    run = Run(tmp_path, "processes", "jax", 2, flags=["--cpus=2"])
    run.start(die_at=DIE_AT).die()
    assert len(run.steps(rank=1)) == DIE_AT
    taken = {rank: run.steps(rank)[: DIE_AT - 1] for rank in run.ranks}
    results = run.start().finish()
    for rank, result in enumerate(results):
        assert len(result["loss"]) == 2  # epochs, of 6
        assert_same(result, expected)
        rest = run.steps(rank)
        resumed = np.flatnonzero(rest[:, 0] == DIE_AT)[-1]
        assert_steps(np.concatenate([taken[rank], rest[resumed:]]), alone.steps(), unlocked=6, fade=3)
