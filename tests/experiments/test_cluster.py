"""A real scheduler and two worker processes on 127.0.0.1; `make test-long`."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

distributed = pytest.importorskip("distributed")

from keras_provlae.experiments import execute_all, read_results, runs  # noqa: E402
from keras_provlae.experiments.cluster import connected  # noqa: E402
from keras_provlae.experiments.executors import LostExecutorError  # noqa: E402

pytestmark = pytest.mark.long
RUN = {
    "model": "VLAE", "data": "shapes3d", "source": "procedural", "beta": 1, "L": 2, "latent_dim": 2, "size": 8,
    "channels": 4, "dense": 8, "batch_size": 20, "iterations": 60, "num_images": 500, "scores": ["mutual_information"],
}  # fmt: skip
RUNS = [{**RUN, "seed": seed} for seed in range(4)]
LONG = {**RUN, "seed": 9, "iterations": 20_000}  # half a minute or more


class Cluster:
    """Processes of Dask on a port of this machine."""

    def __init__(self, folder):
        self.folder, self.processes = folder, {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"

    def start(self, name, *arguments):
        self.folder.mkdir(exist_ok=True)
        log = (self.folder / f"{name}.log").open("ab")
        command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
        environment = os.environ | {"TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, env=environment)

    def scheduler(self):
        self.start("scheduler", "scheduler", "--host=127.0.0.1", f"--port={self.port}", "--no-dashboard")

    def worker(self, name):
        flags = ["--nthreads=1", "--no-nanny", "--no-dashboard", f"--local-directory={self.folder}"]
        self.start(name, "worker", self.address, f"--name={name}", *flags)

    def kill(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path / "dask")
    made.scheduler()
    for name in ("one", "two"):
        made.worker(name)
    yield made
    for name in list(made.processes):
        made.kill(name)


def wait_for(condition, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "waited in vain"
        time.sleep(0.1)


def plain(results):
    """The results without what a clock or a machine decides."""
    card = ("about", "scores")  # seconds of each score
    return {
        name: {key: value for key, value in result.items() if key not in ("seconds", "machine", "card")}
        | {"card": {key: value for key, value in result["card"].items() if key not in card}}
        for name, result in results.items()
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_grid_on_a_cluster_survives_what_happens(cluster, tmp_path):
    local = execute_all(RUNS, tmp_path / "local", workers=2)  # a thread each, as on the cluster
    with connected(cluster.address) as (executor, _):
        found = execute_all(RUNS, tmp_path / "shared", executor=executor)
    assert plain(found) == plain(local)

    # a worker is killed in the middle of a run: the other goes on with it from its checkpoint
    half = tmp_path / "killed" / "models" / runs.key(LONG) / "half.json"
    killed = []

    def kill_when_half():
        wait_for(half.exists)
        with distributed.Client(cluster.address) as client:
            processes = client.run(os.getpid)
            busy = next(address for address, tasks in client.processing().items() if tasks)
        killed.extend(name for name, process in cluster.processes.items() if process.pid == processes[busy])
        cluster.kill(*killed)

    killer = threading.Thread(target=kill_when_half)
    killer.start()
    with connected(cluster.address) as (executor, _):
        found = execute_all([LONG, *RUNS], tmp_path / "killed", executor=executor)
    killer.join()
    assert len(found) == 5
    assert len(killed) == 1
    assert found[runs.key(LONG)]["finite"]
    assert plain({name: result for name, result in found.items() if name in local}) == plain(local)

    # the scheduler dies with runs to do; a new one on the same port, and the same call goes on
    def kill_scheduler():
        wait_for(lambda: len(read_results(tmp_path / "restarted")) >= 1)
        cluster.kill("scheduler")

    killer = threading.Thread(target=kill_scheduler)
    killer.start()
    many = [{**RUN, "seed": seed} for seed in range(20, 40)]
    with pytest.raises((LostExecutorError, OSError)), connected(cluster.address) as (executor, _):
        execute_all(many, tmp_path / "restarted", executor=executor)
    killer.join()
    done = len(read_results(tmp_path / "restarted"))
    assert 1 <= done < len(many)
    for name in list(cluster.processes):
        cluster.kill(name)
    cluster.scheduler()
    cluster.worker("three")
    lines = []
    with connected(cluster.address) as (executor, _):
        found = execute_all(many, tmp_path / "restarted", executor=executor, say=lines.append)
    assert len(found) == len(many)
    assert f"{done} already finished" in lines[0]
