"""The cost of a grid beside its trainings: 1,000 runs of 10 ms through a real Dask scheduler with two workers.

python benchmarks/grid.py --runs=1000     needs the extra `cluster`

Each run takes the real way (scheduler, worker, result, results.jsonl), but a stub of 10 ms stands for the process that
trains. Its result is a real one, of the committed results, under another seed.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags
from distributed import Client
from process_memory import resident

from keras_provlae.experiments import execute_all, executors, runs
from keras_provlae.experiments.cluster import connected

FLAGS = flags.FLAGS
flags.DEFINE_integer("runs", 1000, "Number of runs.", lower_bound=1)
flags.DEFINE_integer("workers", 2, "Worker processes.", lower_bound=1)
RESULTS = Path(__file__).parents[1] / "experiments/results/long/results.jsonl"
SECONDS = 0.01


class Stub:
    """Stands for the process that trains."""

    def __init__(self, result):
        self.result = result

    def execute(self, run, folder, source):
        time.sleep(SECONDS)
        result = {**self.result, "run": run, "key": runs.key(run)}
        (Path(folder) / result["key"]).mkdir(parents=True, exist_ok=True)
        return result


def use(result):
    executors.Child = lambda: Stub(result)


def start(folder):
    """Starts a scheduler and workers; returns its address and the processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    commands = [["scheduler", "--host=127.0.0.1", f"--port={port}", "--no-dashboard"]]
    commands += FLAGS.workers * [["worker", address, "--nthreads=1", "--no-dashboard", f"--local-directory={folder}"]]
    log = (folder / "dask.log").open("ab")
    command = [sys.executable, "-m", "distributed.cli.dask_"]
    return address, [
        subprocess.Popen([*command[:2], command[2] + name, *rest], stdout=log, stderr=log) for name, *rest in commands
    ]


def timed(wanted, folder, **settings):
    begin = time.perf_counter()
    execute_all(wanted, folder, say=lambda line: None, **settings)
    return time.perf_counter() - begin


def main(_):
    result = json.loads(RESULTS.read_text().splitlines()[0])
    run = {name: value for name, value in result["run"].items() if name in runs.OF_RECIPE}
    wanted = [{**run, "seed": seed} for seed in range(FLAGS.runs)]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        address, processes = start(folder)
        try:
            with Client(address, timeout=60) as client:
                client.wait_for_workers(FLAGS.workers, timeout=60)
                client.run(use, result)
            with connected(address) as (executor, _):
                before = resident()
                seconds = timed(wanted, folder / "grid", executor=executor)
                after = resident()
            size = (folder / "grid" / "results.jsonl").stat().st_size
            resumed = timed(wanted, folder / "grid")
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()
    overhead = seconds / FLAGS.runs - SECONDS / FLAGS.workers
    print(f"{FLAGS.runs:,} runs of {1000 * SECONDS:.0f} ms on {FLAGS.workers} workers")
    print(f"  all of them        {seconds:8.1f} s")
    print(f"  overhead a run     {1000 * overhead:8.1f} ms")
    print(f"  caller's memory    {before:8.0f} MB before, {after:.0f} MB after")
    print(f"  results.jsonl      {size / 1e6:8.1f} MB, {size / FLAGS.runs / 1e3:.1f} kB a run")
    print(f"  resume, none left  {resumed:8.1f} s")


if __name__ == "__main__":
    app.run(main)
