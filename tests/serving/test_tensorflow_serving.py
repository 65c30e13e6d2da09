"""Tests with TensorFlow Serving itself, if `tensorflow_model_server` is installed (docs/how-to/serve.md shows how)."""

import base64
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from serving.process import served

pytestmark = pytest.mark.serving


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def tensorflow_serving(exported):
    """Yields the gRPC and REST addresses of TensorFlow Serving with the exported model."""
    if shutil.which("tensorflow_model_server") is None:
        pytest.skip("tensorflow_model_server is not installed")
    grpc, rest = free_port(), free_port()
    command = [
        "tensorflow_model_server", f"--port={grpc}", f"--rest_api_port={rest}", "--model_name=blobs",
        f"--model_base_path={exported.parent}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(120):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{rest}/v1/models/blobs").close()
            break
        except OSError:
            time.sleep(0.5)
    yield f"127.0.0.1:{grpc}", f"http://127.0.0.1:{rest}"
    process.kill()
    process.wait()


def test_the_grpc_client_gets_the_model_s_outputs(tensorflow_serving, growing_model, eight):
    grpc = pytest.importorskip("grpc")
    predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    from tensorflow import make_ndarray, make_tensor_proto
    from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

    with grpc.insecure_channel(tensorflow_serving[0]) as channel:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "blobs", "sample_rung"
        for name, value in {"images": eight[:1], "rung": 3, "n": 4, "seed": 5}.items():
            request.inputs[name].CopyFrom(make_tensor_proto(value))
        answer = PredictionServiceStub(channel).Predict(request, timeout=20)
    expected = growing_model.sample(4, rung=3, around=eight[:1], seed=5)
    np.testing.assert_allclose(make_ndarray(answer.outputs["images"]), expected, atol=1e-6)


def post(address, body):
    request = urllib.request.Request(f"{address}/v1/models/blobs:predict", json.dumps(body).encode())
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


def test_both_servers_answer_rest_clients_alike(tensorflow_serving, exported, eight):
    rest = tensorflow_serving[1]
    images = [np.rint(image * 255).astype("uint8") for image in eight[:2]]
    files = [{"b64": base64.b64encode(tf.io.encode_png(image).numpy()).decode()} for image in images]
    with served(exported.parent) as (ours, _, _):
        for path in "", "/metadata":
            theirs_and_ours = [
                json.loads(urllib.request.urlopen(f"{a}/v1/models/blobs{path}").read()) for a in (rest, ours)
            ]  # fmt: skip
            assert theirs_and_ours[0] == theirs_and_ours[1]
        for body in (
            {"instances": eight[:2].tolist()},
            {"signature_name": "encode", "instances": [{"images": image} for image in eight[:2].tolist()]},
            {"signature_name": "encode", "inputs": eight[:2].tolist()},
            {"signature_name": "sample", "inputs": {"n": 3, "seed": 1}},
            {"signature_name": "encode_image_bytes", "instances": files},
            {"signature_name": "encode_image_bytes", "instances": [{"image_bytes": file} for file in files]},
            {"signature_name": "reconstruct_image_bytes", "inputs": {"image_bytes": files}},
        ):
            theirs, own = (json.dumps(post(address, body), sort_keys=True) for address in (rest, ours))
            number = r"-?\d+\.?\d*(?:[eE][-+]?\d+)?"
            assert re.sub(number, "#", theirs) == re.sub(number, "#", own)  # same names, same nesting
            np.testing.assert_allclose(
                *(np.array(re.findall(number, answer), float) for answer in (theirs, own)), atol=1e-5
            )
