import json
import random
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from serving.process import served

from benchmarks.serving import load, malformed, mixed_bodies

pytestmark = pytest.mark.serving


def post(address, content, timeout=60):
    """Sends a predict request; returns status and JSON of the answer."""
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(f"{address}/v1/models/blobs:predict", content)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


SAMPLE = {"signature_name": "sample", "inputs": {"n": 2, "seed": 0}}


def test_it_listens_on_this_machine_only(exported):
    with served(exported.parent) as (address, _, _):
        port = int(address.rsplit(":", 1)[1])
        assert address.startswith("http://127.0.0.1:")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=2)


def test_a_shutdown_finishes_open_requests(exported):
    with served(exported.parent) as (address, process, lines):
        port, body = int(address.rsplit(":", 1)[1]), json.dumps(SAMPLE).encode()
        head = f"POST /v1/models/blobs:predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(head.encode() + body[:10])
            time.sleep(0.5)  # the request has begun
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: any("Shutting down" in line for line in lines))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=2)
            connection.sendall(body[10:])
            with connection.makefile("rb") as answer:
                assert answer.readline().startswith(b"HTTP/1.1 200")
                assert len(json.loads(answer.read().split(b"\r\n\r\n")[1])["outputs"]) == 2
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)


def test_many_clients_at_once_get_answers(exported, growing_model):
    with served(exported.parent) as (address, _, _):
        taken, failed = load(address, "blobs", mixed_bodies(growing_model), clients=32, seconds=3)
    assert failed == []
    assert len(taken) > 100


def test_new_versions_take_over_without_a_failed_request(exported, tmp_path):
    folder = tmp_path / "blobs"
    shutil.copytree(exported, folder / "1")
    with served(folder, "--poll_seconds=0.1") as (address, _, lines):
        answers, over = [], threading.Event()

        def ask():
            while not over.is_set():
                answers.append(post(address, SAMPLE))

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        for number in 2, 3, 4:
            shutil.copytree(exported, tmp_path / "new")
            (tmp_path / "new").rename(folder / str(number))
            wait_for(lambda number=number: any(f"version {number} of" in line for line in lines))
        over.set()
        for client in clients:
            client.join()
        assert sum("Serving version" in line for line in lines) == 4
        assert len(answers) > 100
        assert {status for status, _ in answers} == {200}
        assert all(answer == answers[0][1] for _, answer in answers)


def test_malformed_requests_never_break_it(exported):
    rng = random.Random(0)
    with served(exported.parent) as (address, process, lines):
        expected = post(address, SAMPLE)
        for _ in range(200):
            body = malformed(rng, (8, 8, 1))
            status, answer = post(address, body)
            assert status == 400, (body, answer)
            assert answer["error"]
        for raw in (
            b"\x00" * 100,
            b"POST / HTTP/9.9\r\n\r\n",
            b"GET " + b"x" * 10**6,
            b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), timeout=10) as connection:
                connection.sendall(raw)
                connection.shutdown(socket.SHUT_WR)
                assert not connection.recv(100).startswith(b"HTTP/1.1 5")
        assert post(address, SAMPLE) == expected
        port = int(address.rsplit(":", 1)[1])
        for part in b"POST /v1/models/blobs:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{", b"POST /v1":
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(part)  # then hangs up
        assert post(address, SAMPLE) == expected
        assert process.poll() is None
        assert "Traceback" not in "".join(lines)


def test_without_a_version_it_exits_with_a_message(tmp_path):
    with pytest.raises(RuntimeError, match="There is no version of a SavedModel in"), served(tmp_path):
        pass


def test_a_taken_port_is_reported_at_once(exported):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = f"Cannot listen on 127.0.0.1, port {port}: .*Try --rest_api_port=0."
        with pytest.raises(RuntimeError, match=message) as error, served(exported.parent, f"--rest_api_port={port}"):
            pass
    assert "Serving version" not in str(error.value)


def test_unknown_arguments_are_rejected(exported):
    with pytest.raises(RuntimeError, match="Unknown: more. The folder is --model_base_path=FOLDER"):
        served(exported.parent, "more").__enter__()
