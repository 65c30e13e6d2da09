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

from benchmarks.serving import malformed

pytestmark = pytest.mark.serving


def post(address, content, timeout=60):
    """Status and JSON of an answer to a predict request."""
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(f"{address}/v1/models/blobs:predict", content)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


SAMPLE = {"signature_name": "sample", "inputs": {"n": 2, "seed": 0}}


def test_it_listens_on_this_machine_alone(exported):
    with served(exported.parent) as (address, _, _):
        port = int(address.rsplit(":", 1)[1])
        assert address.startswith("http://127.0.0.1:")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=2)


def test_a_stop_finishes_requests_in_flight(exported):
    with served(exported.parent, "--max_images=60000") as (address, process, lines):
        status = []
        long = {"signature_name": "sample", "inputs": {"n": 60000, "seed": 0}}
        request = threading.Thread(target=lambda: status.append(post(address, long)))
        request.start()
        time.sleep(0.4)
        assert not status
        process.send_signal(signal.SIGTERM)
        request.join()
        process.wait(timeout=30)
        assert status[0][0] == 200
        assert len(status[0][1]["outputs"]) == 60000
        assert "Finished server process" in "".join(lines)
        with pytest.raises(urllib.error.URLError):
            post(address, SAMPLE)


def test_new_versions_come_without_a_failed_request(exported, tmp_path):
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
            for _ in range(300):
                if any(f"version {number} of" in line for line in lines):
                    break
                time.sleep(0.1)
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
        assert process.poll() is None
        assert "Traceback" not in "".join(lines)


def test_without_a_version_it_ends_and_says_so(tmp_path):
    with pytest.raises(RuntimeError, match="There is no version of a SavedModel in"), served(tmp_path):
        pass
