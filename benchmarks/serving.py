"""Measures an exported model: in process, and through `examples/serve.py` over HTTP.

python benchmarks/serving.py                    # the tables in docs/speed.md; about three minutes on 2 cores
python benchmarks/serving.py --load_seconds=5   # a shorter load test

The model is a preset with random weights, which do not affect the speed. `encode` and `decode` at batch 1 and 64 are
called in process (the signatures of `tf.saved_model.load`) and over HTTP (one client on loopback that keeps its
connection), in alternation. Latencies in milliseconds are taken over all rounds; images per second are those of one
client. Requests are serialized beforehand, answers are read but not parsed. Then 32 clients send a mix of requests,
followed by 200 malformed ones. Cold start is the time from the start of the process to the first answer; memory is the
resident set size of the server.
"""

import http.client
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from absl import app, flags

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "examples")]
from serving.process import served  # noqa: E402

FLAGS = flags.FLAGS
flags.DEFINE_string("preset", "mnist", "Preset of the model.")
flags.DEFINE_integer("rounds", 5, "Alternating rounds of process and HTTP.", lower_bound=1)
flags.DEFINE_float("seconds", 2.0, "Seconds of a measurement in a round.", lower_bound=0.1)
flags.DEFINE_integer("clients", 32, "Clients in the load test.", lower_bound=1)
flags.DEFINE_float("load_seconds", 60.0, "Seconds of the load test.", lower_bound=0.1)
flags.DEFINE_integer("malformed", 200, "Malformed requests.", lower_bound=1)


class Client:
    """A client with one persistent connection."""

    def __init__(self, address, name):
        self.connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
        self.path = f"/v1/models/{name}:predict"

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Returns status and body of the answer."""
        self.connection.request("POST", self.path, body)
        answer = self.connection.getresponse()
        return answer.status, answer.read()


def malformed(rng: random.Random, image_shape: tuple) -> bytes:
    """Returns a request that is malformed in one of many ways: bytes, shapes, numbers, names, depth."""
    image = np.zeros((1, *image_shape)).tolist()
    sizes = [rng.randrange(1, 9) for _ in range(rng.randrange(1, 6))]
    swap = {"images": image, "others": image, "rung": rng.choice([-1, 0, 99, 1.5, "1", None])}
    sweep = {"images": image, "latent": 0, "values": [0.0] * 10**4}
    numbers = [b"NaN", b"Infinity", b"1e999", b"-1", b"2", b'"0"', b"null", b"{}"]
    bodies = [
        rng.randbytes(rng.randrange(2000)),
        json.dumps({"inputs": image}).encode()[: rng.randrange(1, 200)],
        {"inputs": [*np.zeros(sizes).tolist(), 0]},
        {"instances": np.zeros((2, *image_shape[:2], image_shape[2] + 1)).tolist()},
        {"signature_name": "sample", "inputs": {"n": rng.choice([-1, 0, 10**6, 2**31, 2**63, 10**30]), "seed": 0}},
        b'{"inputs": [[[[' + rng.choice(numbers) + b"]]]]}",
        {"signature_name": "decode", "inputs": [[float("nan")]]},
        b"[" * rng.randrange(1, 100_000),
        b'{"a":' * rng.randrange(1, 20_000),
        {"signature_name": rng.choice(["x" * 10**5, "__init__", 1, [], {}]), "inputs": 0},
        {"signature_name": "swap_rung", "inputs": swap},
        {"signature_name": "traverse", "inputs": sweep},
    ]
    body = rng.choice(bodies)
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def export(folder):
    """Exports the preset, fully grown, as version 1."""
    import keras_provlae as kp

    model = kp.ProgressiveVAE.from_preset(FLAGS.preset)
    while model.stage + 1 < model.num_rungs:
        model.grow(fade_in_steps=0)
    return model, kp.export.export_savedmodel(model, folder, require_grown=True)


def timed(call):
    """Returns the seconds of every call during one measurement."""
    call()
    taken, begin = [], time.perf_counter()
    while time.perf_counter() - begin < FLAGS.seconds:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


def measure_calls(path, address, model):
    """Prints latency and throughput of every signature, batch size and way, measured in alternation."""
    import tensorflow as tf

    signatures, client = tf.saved_model.load(str(path)).signatures, Client(address, path.parent.name)
    rng = np.random.default_rng(0)
    shapes = {"encode": ("images", model.image_shape), "decode": ("codes", (model.rung_slices[-1][1].stop,))}
    calls = {}
    for signature, (name, shape) in shapes.items():
        for batch in 1, 64:
            array = rng.random((batch, *shape), dtype="float32")
            body = json.dumps({"signature_name": signature, "inputs": array.astype(float).round(4).tolist()}).encode()

            def in_process(function=signatures[signature], name=name, array=array):
                return [output.numpy() for output in function(**{name: tf.constant(array)}).values()]

            def over_http(body=body):
                status, answer = client.post(body)
                if status != 200:
                    raise RuntimeError(answer.decode())

            calls[signature, batch] = {"in process": in_process, "HTTP": over_http}
    taken = {(*key, way): [] for key, ways in calls.items() for way in ways}
    for _ in range(FLAGS.rounds):
        for key, ways in calls.items():
            for way, call in ways.items():
                taken[(*key, way)] += timed(call)
    print("\n| signature | batch | way | median, ms | p99, ms | images/s |\n|---|---|---|---|---|---|")
    for (signature, batch, way), seconds in taken.items():
        median, p99 = np.percentile(seconds, [50, 99]) * 1000
        print(f"| {signature} | {batch} | {way} | {median:.2f} | {p99:.2f} | {batch / np.mean(seconds):,.0f} |")


def mixed_bodies(model):
    """Returns the requests of the load test, one per signature."""
    rng = np.random.default_rng(0)
    image = rng.random((1, *model.image_shape)).round(3).tolist()
    codes = rng.standard_normal((8, model.rung_slices[-1][1].stop)).round(3).tolist()
    bodies = {
        "encode": image,
        "reconstruct": image,
        "decode": codes,
        "sample": {"n": 4, "seed": 0},
        "sample_rung": {"images": image, "rung": 1, "n": 4, "seed": 0},
        "swap_rung": {"images": image, "others": image, "rung": 1},
        "traverse": {"images": image, "latent": 0, "values": [-2, 0, 2]},
    }
    return [json.dumps({"signature_name": name, "inputs": inputs}).encode() for name, inputs in bodies.items()]


def load(address: str, name: str, bodies: list[bytes], clients: int, seconds: float) -> tuple[list[float], list]:
    """Runs many clients at once; returns the seconds of every answer, and the failures."""
    taken, failed, end = [], [], time.monotonic() + seconds

    def ask(seed):
        rng, client = random.Random(seed), Client(address, name)
        while time.monotonic() < end:
            start = time.perf_counter()
            try:
                status, answer = client.post(rng.choice(bodies))
            except (OSError, http.client.HTTPException) as error:
                failed.append(error)
                client.connection.close()  # the next request reconnects
                continue
            taken.append(time.perf_counter() - start)
            if status != 200:
                failed.append((status, answer))
        client.connection.close()

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken, failed


def resident(process):
    """Returns the current and the peak resident set size of a process, in megabytes."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Vm")}
    return sizes["VmRSS"], sizes["VmHWM"]


def main(_):
    with tempfile.TemporaryDirectory() as folder:
        model, path = export(Path(folder) / FLAGS.preset)
        bodies = mixed_bodies(model)
        start = time.perf_counter()
        with served(path.parent) as (address, process, _):
            client = Client(address, FLAGS.preset)
            expected = client.post(bodies[0])
            print(f"{FLAGS.preset}: cold start {time.perf_counter() - start:.1f} s, to the first answer")
            print(f"memory of the server: {resident(process)[0]:.0f} MB")
            measure_calls(path, address, model)

            taken, failed = load(address, FLAGS.preset, bodies, FLAGS.clients, FLAGS.load_seconds)
            median, p99 = np.percentile(taken, [50, 99]) * 1000
            print(f"\n{FLAGS.clients} clients, {FLAGS.load_seconds:g} s: {len(taken):,} requests, {len(failed)} failed")
            print(f"{len(taken) / FLAGS.load_seconds:,.0f} per second, median {median:.1f} ms, p99 {p99:.1f} ms")
            print("memory of the server: {:.0f} MB, peak {:.0f} MB".format(*resident(process)))

            rng, statuses, client = random.Random(0), {}, Client(address, FLAGS.preset)
            for _ in range(FLAGS.malformed):
                status, _ = client.post(malformed(rng, model.image_shape))
                statuses[status] = statuses.get(status, 0) + 1
            same = client.post(bodies[0]) == expected
            print(f"{FLAGS.malformed} malformed requests: {statuses}; correct afterwards: {same}")


if __name__ == "__main__":
    app.run(main)
