import asyncio
import base64
import gc
import gzip
import itertools
import json
import shutil
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import orjson
import pytest
import tensorflow as tf

import keras_provlae as kp

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient
from serving import versions
from serving.app import Limits, create_app
from serving.tensors import BadRequestError, to_json
from serving.versions import Version, WatchedModel


@pytest.fixture(scope="module")
def warm_up_calls():
    """Names of the signatures called while `served` was loaded."""
    return []


@pytest.fixture(scope="module")
def served(exported, tmp_path_factory, warm_up_calls):
    """A model in its own folder, with version 1."""
    folder = tmp_path_factory.mktemp("watched") / "blobs"
    shutil.copytree(exported, folder / "1")
    call = Version.predict
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Version, "predict", lambda self, name, arrays: warm_up_calls.append(name) or call(self, name, arrays)
        )
        model = WatchedModel(folder)
    yield model
    gc.unfreeze()  # frozen for a process that only serves


@pytest.fixture(scope="module")
def client(served):
    with TestClient(
        create_app(served, Limits(body_bytes=200_000, images=64, pixels=10_000), poll_seconds=60)
    ) as client:
        yield client


def predict(client, **body):
    return client.post("/v1/models/blobs:predict", content=orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


def test_rows_are_answered_with_predictions(client, growing_model, eight):
    answer = predict(client, instances=eight[:3])
    np.testing.assert_allclose(answer.json()["predictions"], growing_model.reconstruct(eight[:3]), atol=1e-6)
    named = predict(client, instances=[{"images": image} for image in eight[:3]], signature_name="serving_default")
    assert named.json() == answer.json()


def test_rows_name_several_outputs(client, growing_model, eight):
    rows = predict(client, signature_name="encode", instances=eight[:2]).json()["predictions"]
    mean, _ = growing_model.encode(eight[:2])
    np.testing.assert_allclose([row["mean"] for row in rows], mean, atol=1e-6)
    assert set(rows[0]) == {"mean", "log_var", *(f"{n}_rung_{r}" for n in ("mean", "log_var") for r in (1, 2, 3))}


def test_columns_are_answered_with_outputs(client, growing_model, eight):
    inputs = {"images": eight[:1], "rung": 3, "n": 4, "seed": 0}
    answer = predict(client, signature_name="sample_rung", inputs=inputs).json()["outputs"]
    np.testing.assert_allclose(answer, growing_model.sample(4, rung=3, around=eight[:1], seed=0), atol=1e-6)
    mean, log_var = growing_model.encode(eight[:2])
    answer = predict(client, signature_name="encode", inputs=eight[:2]).json()["outputs"]
    np.testing.assert_allclose(answer["log_var"], log_var, atol=1e-6)
    integers = np.rint(eight[:2] * 255).astype("uint8")
    answer = predict(client, signature_name="encode_uint8", inputs={"images": integers}).json()["outputs"]
    np.testing.assert_allclose(answer["mean"], mean, atol=1e-6)


def b64(image):
    """Wraps an image or the bytes of a file as TensorFlow Serving's clients do."""
    file = image if isinstance(image, bytes) else tf.io.encode_png(np.rint(image * 255).astype("uint8")).numpy()
    return {"b64": base64.b64encode(file).decode()}


def test_image_files_are_accepted_as_rows_or_columns_named_or_not(client, growing_model, eight):
    files = list(map(b64, eight[:2]))
    lines = files[0]["b64"]
    wrapped = {"b64": f"{lines[:20]}\n{lines[20:]}".rstrip("=")}  # wrapped like the base64 command; padding is optional
    mean, _ = growing_model.encode(eight[:2])
    for body in (
        {"instances": files},
        {"instances": [{"image_bytes": file} for file in (wrapped, files[1])]},
        {"inputs": files},
        {"inputs": {"image_bytes": files}},
    ):
        answer = predict(client, signature_name="encode_image_bytes", **body).json()
        received = [row["mean"] for row in answer["predictions"]] if "instances" in body else answer["outputs"]["mean"]
        np.testing.assert_allclose(received, mean, atol=1e-6)
    images = predict(client, signature_name="reconstruct_image_bytes", instances=files).json()["predictions"]
    np.testing.assert_allclose(images, growing_model.reconstruct(eight[:2]), atol=1e-6)
    assert predict(client, signature_name="reconstruct_image_bytes", inputs=[]).json() == {"outputs": []}


def test_older_exports_are_served_and_report_missing_signatures(client, served, monkeypatch, eight):
    for name in "encode_image_bytes", "reconstruct_image_bytes":
        monkeypatch.delitem(served.current.signatures, name)
    answer = predict(client, signature_name="encode_image_bytes", instances=[b64(eight[0])])
    assert answer.status_code == 400
    assert "Older exports and models without 1 or 3 channels have no signatures" in answer.json()["error"]
    assert predict(client, signature_name="sample", inputs={"n": 1, "seed": 0}).status_code == 200


def test_status_and_metadata_match_tensorflow_serving(client):
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in "/v1/models/blobs", "/v1/models/blobs/versions/1":
        assert client.get(path).json() == {"model_version_status": [status]}
    metadata = client.get("/v1/models/blobs/metadata").json()
    assert metadata["model_spec"] == {"name": "blobs", "signature_name": "", "version": "1"}
    encode = metadata["metadata"]["signature_def"]["signature_def"]["encode"]
    assert encode["inputs"]["images"]["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in encode["inputs"]["images"]["tensor_shape"]["dim"]] == ["-1", "8", "8", "1"]
    assert encode["method_name"] == "tensorflow/serving/predict"
    assert client.get("/v1/models/blobs/versions/1/metadata").json() == metadata


IMAGE = np.zeros((1, 8, 8, 1)).tolist()
PNG, JPEG = b64(np.zeros((8, 8, 1))), b64(tf.io.encode_jpeg(np.zeros((100, 200, 3), "uint8")).numpy())
HUGE_PNG = b64(b"\x89PNG\r\n\x1a\n....IHDR" + b"\xff" * 8)  # declares (2**32 - 1)**2 pixels


def files(*items):
    return {"signature_name": "encode_image_bytes", "instances": items}


HUGE = list(itertools.product((3e38, -3e38), repeat=6))  # some of these overflow to NaN


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\xff\x00 random", "The body must be JSON"),
        (b"", "The body must be JSON"),
        (b"[" * 5000, "The body must be JSON"),
        (b"[1]", "must be a JSON object. Received: a list"),
        ({}, "either `inputs` (columns) or `instances` (rows)"),
        ({"inputs": IMAGE, "instances": IMAGE}, "either `inputs` (columns) or `instances` (rows)"),
        (
            {"signature_name": "decode", "inputs": [[0, True, 0, 0, 0, 0]]},
            "must hold only numbers. Received: boolean.",
        ),
        ({"inputs": ["x" * 20_000] + ["a"] * 20_000}, "must hold only numbers. Received: string."),
        ({"signature_name": "decode", "inputs": HUGE}, "`codes` must be smaller: the images are not finite"),
        ({"signature_name": False, "inputs": IMAGE}, "`signature_name` must be a string. Received: a boolean"),
        ({"signature_name": 3, "inputs": IMAGE}, "`signature_name` must be a string. Received: a number"),
        ({"signature_name": "rotate", "inputs": IMAGE}, "There is no signature 'rotate'. Known: decode, encode, enc"),
        ({"instances": []}, "`instances` must be a non-empty list"),
        ({"instances": [{"images": IMAGE[0]}, {"image": IMAGE[0]}]}, "All `instances` must name the same inputs"),
        ({"inputs": {"image": IMAGE}}, "has the inputs ['images']. Received: ['image']"),
        ({"signature_name": "swap_rung", "inputs": IMAGE}, "has several inputs. Name them: ['images', 'others'"),
        ({"inputs": [[1, 2], [3]]}, "`images` must be a number or lists of equal lengths"),
        ({"inputs": "image"}, "`images` must hold only numbers. Received: string."),
        ({"inputs": None}, "`images` must hold only numbers. Received: null."),
        ({"inputs": {"images": True}}, "`images` must hold only numbers. Received: boolean."),
        ({"inputs": {"images": {"b64": "AAAA"}}}, "`images` must hold only numbers. Received: object."),
        ({"inputs": np.zeros((1, 8, 9, 1)).tolist()}, "must have the shape (any, 8, 8, 1). Received: (1, 8, 9, 1)."),
        ({"instances": np.zeros((8, 8, 1)).tolist()}, "must have the shape (any, 8, 8, 1). Received: (8, 8, 1)."),
        (b'{"inputs": NaN}', "The body must be JSON, without NaN"),
        (b'{"inputs": ' + b"[" * 200 + b"]" * 200 + b"}", "`images` must be a number or lists of equal lengths"),
        (
            {"inputs": np.full((1, 8, 8, 1), 255.0).tolist()},
            "must hold finite values in [0, 1], or uint8 values. Lowest",
        ),
        ({"inputs": np.full((1, 8, 8, 1), 1e300).tolist()}, "must hold finite values in [0, 1], or uint8"),
        ({"signature_name": "decode", "inputs": [[1e300] * 6]}, "`codes` must be finite"),
        (
            {"signature_name": "encode_uint8", "inputs": np.full((1, 8, 8, 1), 256).tolist()},
            "must be uint8, 0 .. 255. Re",
        ),
        (
            {"signature_name": "encode_uint8", "inputs": np.full((1, 8, 8, 1), 0.5).tolist()},
            "`images` must hold only integers",
        ),
        (
            {"signature_name": "encode_uint8", "inputs": np.full((1, 8, 8, 1), -1).tolist()},
            "0 .. 255. Received: -1 .. -1",
        ),
        ({"signature_name": "sample", "inputs": {"n": 2.0, "seed": 0}}, "`n` must hold only integers"),
        ({"signature_name": "sample", "inputs": {"n": 0, "seed": 0}}, "`n` must be at least 1. Received: 0"),
        (
            {"signature_name": "sample", "inputs": {"n": 2**31, "seed": 0}},
            "`n` must be int32, -2147483648 .. 2147483647.",
        ),
        ({"signature_name": "sample", "inputs": {"n": 2**70, "seed": 0}}, "`n` must"),
        ({"signature_name": "sample", "inputs": {"n": 65, "seed": 0}}, "at most 64 images. Received: 65."),
        (
            {"signature_name": "sample", "instances": [{"n": 1, "seed": 0}]},
            "Scalars have no rows: use `inputs` instead",
        ),
        (
            {"signature_name": "sample_rung", "inputs": {"images": IMAGE * 2, "rung": 1, "n": 33, "seed": 0}},
            "at most 64 images. Received: 66.",
        ),
        (
            {"signature_name": "traverse", "inputs": {"images": IMAGE, "latent": 0, "values": [0.0] * 65}},
            "at most 64 images. Received: 65.",
        ),
        (
            {"signature_name": "traverse", "inputs": {"images": IMAGE, "latent": 6, "values": [0.0]}},
            "`latent` must be 0 .. 5, a column of the code. Received: 6",
        ),
        ({"inputs": IMAGE * 65}, "at most 64 images. Received: 65."),
        (
            {"signature_name": "sample_rung", "inputs": {"images": IMAGE * 65, "rung": 1, "n": -5, "seed": 0}},
            "at most 64 images. Received: 65.",
        ),
        (
            {"signature_name": "traverse", "inputs": {"images": IMAGE * 65, "latent": 0, "values": []}},
            "at most 64 images. Received: 65.",
        ),
        (
            files(PNG, {"b64": "data:image/png;base64,AA"}),
            "Received as item 1, counted from 0: 'data:image/png;",
        ),
        (files(PNG, PNG, {"b64": "A"}), "must hold plain base64, without a `data:...,` prefix. Received as item 2,"),
        (files(PNG, {"b64": "\u00e9"}), "must hold plain base64, without a `data:...,` prefix. Received as item 1,"),
        (files(PNG, {"b64": 3}), 'or bytes as {"b64": "..."}. Received: a object as item 1'),
        (files(PNG, 3), 'or bytes as {"b64": "..."}. Received: a number as item 1'),
        (files(PNG, [PNG]), 'or bytes as {"b64": "..."}. Received: a list as item 1'),
        (files([PNG], PNG), "`image_bytes` must be a string or lists of equal lengths"),
        (
            files(PNG, "text"),
            "must hold PNG or JPEG files; in JSON, objects with the single key b64. Re",
        ),
        (files(PNG, b64(b"<html>")), "Received something else as item, counted from 0: 1"),
        (files(PNG, PNG, {"b64": PNG["b64"][:40]}), "Received a broken one as item, counted from 0: 2"),
        (files(PNG, {"image_bytes": PNG}), "must hold strings, or bytes"),
        ({**files(), "instances": [{"image_bytes": PNG}, PNG]}, "All `instances` must name the same inputs"),
        (files([PNG]), "`image_bytes` must have the shape (any). Received: (1, 1)"),
        (files(*[PNG] * 65), "at most 64 images. Received: 65."),
        (files(PNG, HUGE_PNG), f"at most 10000 pixels together. Received: {64 + (2**32 - 1) ** 2} up to item 1 of `im"),
        (files(JPEG, PNG), "at most 10000 pixels together. Received: 20000 up to item 0 of `image_bytes`, counted fr"),
        ({"signature_name": "encode_image_bytes", "inputs": PNG}, "must have the shape (any). Received: ()"),
        (
            b'{"signature_name": "encode_image_bytes", "inputs": ' + b"[" * 200 + b"]" * 200 + b"}",
            "`image_bytes` must be a string or lists of equal lengths",
        ),
        ({"instances": [PNG]}, "Received: object. Send files to `encode_image_bytes` or `reconstruct_image_bytes`."),
        (
            {"signature_name": "swap_rung", "inputs": {"images": IMAGE, "others": IMAGE * 2, "rung": 1}},
            "`images` and `others` must be batches of the same size. Received: 1 2",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_requests_get_a_400_with_the_reason(client, body, message):
    content = body if isinstance(body, bytes) else json.dumps(body)
    answer = client.post("/v1/models/blobs:predict", content=content)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_long_bodies_are_rejected_before_they_are_read(client):
    for content in b" " * 200_001, (b" " * 50_000 for _ in range(5)):  # with a content-length, and in chunks
        answer = client.post("/v1/models/blobs:predict", content=content)
        assert (answer.status_code, answer.json()["error"]) == (413, "The body must not be longer than 200000 bytes.")
    assert client.post("/v1/models/blobs:predict", content=b"1", headers={"content-encoding": "br"}).status_code == 415


def test_gzipped_bodies_are_limited_by_their_unpacked_size(client):
    def post(content):
        answer = client.post("/v1/models/blobs:predict", content=content, headers={"content-encoding": "gzip"})
        return answer.status_code, answer.json().get("error", "")

    body = gzip.compress(json.dumps({"inputs": IMAGE}).encode())
    assert post(body) == post(body[i : i + 7] for i in range(0, len(body), 7)) == (200, "")
    long = gzip.compress(b" " * 10**7)
    assert len(long) < 10**4
    assert post(long) == (413, "The body must not be longer than 200000 bytes.")
    for broken, problem in (b"1", "header"), (body[:-9], "it is cut off"), (body + body, "something follows its end"):
        status, error = post(broken)
        assert (status, error[:49]) == (400, "The body must be valid gzip, as its header says: ")
        assert problem in error
    assert client.app.state.held_bytes == 0


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/models/flowers", "Servable not found for request: Latest(flowers). Served here: blobs."),
        ("/v1/models/flowers/metadata", "Servable not found for request: Latest(flowers)"),
        ("/v1/models/blobs/versions/2", "Servable not found for request: Specific(blobs, 2). Served here: version 1."),
        ("/v1/models/blobs/versions/x/metadata", "Specific(blobs, x)"),
        ("/v2", "Not Found"),
    ],
)
def test_unknown_names_and_versions_get_a_404(client, path, message):
    answer = client.get(path)
    assert answer.status_code == 404
    assert message in answer.json()["error"]


def test_the_explorer_gets_its_page_and_data(client, exported, eight):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert 'src="http' not in page.text  # no external resources
    facts = client.get("/explorer.json").json()
    assert (facts["name"], facts["version"]) == ("blobs", 1)
    assert facts["metadata"] == kp.export.read_metadata(exported)
    assert np.array_equal(facts["examples"], np.rint(eight[:5] * 255))


def test_the_limit_itself_is_allowed(client):
    assert len(predict(client, signature_name="sample", inputs={"n": 64, "seed": 0}).json()["outputs"]) == 64


def test_errors_do_not_quote_long_requests(client):
    for body in {"signature_name": "x" * 10**5}, {"inputs": {f"name {i}": 0 for i in range(10**4)}}:
        assert len(predict(client, **{"inputs": 0, **body}).json()["error"]) <= 1000


def post_in_parts(app, *parts):
    """Sends a request body in parts (`None`: silence) without an HTTP client; returns status, error and headers."""
    received = []

    async def receive():
        part = next(coming, None)
        if part is None:
            await asyncio.sleep(60)
        return (
            {"type": "http.disconnect"}
            if part == "hang up"
            else {"type": "http.request", "body": part, "more_body": True}
        )

    async def send(message):
        received.append(message)

    coming = iter(parts)
    path = "/v1/models/blobs:predict"
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "scheme": "http"}
    asyncio.run(app(scope, receive, send))
    return received[0]["status"], json.loads(received[1]["body"])["error"], dict(received[0]["headers"])


def test_unfinished_bodies_time_out(served):
    app = create_app(served, Limits(read_seconds=0.2))
    status, error, headers = post_in_parts(app, b"{", None)
    assert (status, error) == (408, "The body did not arrive within 0.2 seconds.")
    assert headers[b"connection"] == b"close"
    assert post_in_parts(app, b"{", "hang up")[:2] == (400, "The body ended too early.")
    assert app.state.held_bytes == 0


def test_the_total_size_of_all_bodies_is_limited(served):
    with TestClient(create_app(served, Limits(all_bodies_bytes=100))) as client:
        for _ in range(3):  # finished requests do not count
            assert client.post("/v1/models/blobs:predict", content=b" " * 90).status_code == 400
        answer = client.post("/v1/models/blobs:predict", content=b" " * 101)
        assert (answer.status_code, answer.headers["connection"]) == (503, "close")
        assert "Try again later" in answer.json()["error"]


def test_only_allowed_hosts_are_answered(served):
    with TestClient(create_app(served, allowed_hosts=("127.0.0.1",)), base_url="http://evil.example") as client:
        answer = client.get("/explorer.json")
        assert answer.status_code == 400
        assert (
            answer.json()["error"]
            == "This server does not answer to the host 'evil.example'. See its flag --allowed_hosts."
        )
        assert predict(client, signature_name="sample", inputs={"n": 1, "seed": 0}).status_code == 400
        assert client.get("/explorer.json", headers={"host": "127.0.0.1:8501"}).status_code == 200
    with TestClient(create_app(served, allowed_hosts=("::1",))) as client:
        assert client.get("/explorer.json", headers={"host": "[::1]:8501"}).status_code == 200


def test_unexpected_errors_are_json_too(served, monkeypatch):
    def fail(*_):
        raise KeyError("x")

    monkeypatch.setattr(served.current, "predict", fail)
    with TestClient(create_app(served), raise_server_exceptions=False) as client:
        answer = predict(client, signature_name="sample", inputs={"n": 1, "seed": 0})
    assert (answer.status_code, answer.json()) == (500, {"error": "The server failed: KeyError."})


def test_out_of_memory_gets_a_503(client, served, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(served.current, "predict", fail)
    assert predict(client, signature_name="sample", inputs={"n": 1, "seed": 0}).status_code == 503


def test_every_signature_is_called_once_before_it_serves(served, exported, warm_up_calls):
    assert sorted(warm_up_calls) == sorted(kp.export.read_metadata(exported)["signatures"])


def test_outputs_are_in_the_order_of_their_names(served):
    names = list(served.current.predict("encode", {"images": np.zeros((1, 8, 8, 1), "float32")}))
    assert names == sorted(names)


def test_outputs_that_cannot_be_split_into_rows_are_rejected():
    same = to_json({"a": np.zeros((2, 1), order="F"), "b": np.ones(2)}, has_rows=True)
    assert json.loads(same) == {"predictions": [{"a": [0.0], "b": 1.0}, {"a": [0.0], "b": 1.0}]}
    for other in np.ones(3), np.float32(1):
        with pytest.raises(BadRequestError, match="differ in their batch: use `inputs`"):
            to_json({"a": np.zeros((2, 1)), "b": other}, has_rows=True)
    with pytest.raises(BadRequestError, match="The answer is not finite"):
        to_json({"a": np.array([np.nan])}, has_rows=False)


def test_outputs_named_bytes_are_base64():
    files = np.array([b"\xff\x00", b"a"], object)
    rows = to_json({"x_bytes": files, "text": np.array([b"a", "\u00e9".encode()], object)}, has_rows=True)
    assert json.loads(rows) == {
        "predictions": [{"x_bytes": {"b64": "/wA="}, "text": "a"}, {"x_bytes": {"b64": "YQ=="}, "text": "\u00e9"}]
    }
    assert json.loads(to_json({"x_bytes": files}, has_rows=False)) == {"outputs": [{"b64": "/wA="}, {"b64": "YQ=="}]}
    assert json.loads(to_json({"n": np.float32(1)}, has_rows=False)) == {"outputs": 1}
    with pytest.raises(BadRequestError, match="The output `x` is not text, so its name must end in `_bytes`"):
        to_json({"x": files}, has_rows=False)


class Stub(Version):
    """A version that loads at once, or fails if its file says `broken`."""

    loads: ClassVar = []

    def __init__(self, number, folder):
        self.number, self.folder = number, folder
        self.loads.append(folder.name)
        if (folder / "saved_model.pb").read_text() == "broken":
            raise ValueError("broken")


class Graph:
    """A cyclic object, which only the garbage collector frees."""


@pytest.fixture
def stubs(tmp_path, monkeypatch):
    """Returns a function that writes versions of the model `m`."""
    monkeypatch.setattr(versions, "Version", Stub)
    monkeypatch.setattr(Stub, "loads", [])

    def write(name, content="good"):
        (tmp_path / "m" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name / "saved_model.pb").write_text(content)

    yield write
    gc.unfreeze()


def test_broken_versions_are_skipped_until_their_files_change(stubs, tmp_path, caplog):
    stubs("1")
    model = WatchedModel(tmp_path / "m")
    assert gc.get_freeze_count() > 10_000  # else every few large requests would wait for the garbage collector
    (tmp_path / "m/4").mkdir()  # being copied: no saved_model.pb yet
    stubs("3", "broken")
    stubs("2", "broken")
    (tmp_path / "m/3/dangling").symlink_to("nowhere")
    for _ in range(3):
        model.refresh()
    assert (model.current.number, sorted(model.failures)) == (1, [2, 3])
    assert Stub.loads == ["1", "3", "2"]
    assert sum("Version 3 of m in" in record.message for record in caplog.records) == 1
    with TestClient(create_app(model)) as client:
        states = client.get("/v1/models/m").json()["model_version_status"]
        assert [(state["version"], state["state"]) for state in states] == [
            ("1", "AVAILABLE"),
            ("3", "END"),
            ("2", "END"),
        ]
        assert "m/3: broken" in states[1]["status"]["error_message"]
        assert client.get("/v1/models/m/versions/3").json()["model_version_status"] == states[1:2]
        assert client.get("/v1/models/flowers/versions/3").status_code == 404
    shutil.rmtree(tmp_path / "m/2")
    stubs("3", "mended")
    model.refresh()
    assert (model.current.number, model.failures) == (3, {})


def test_a_deleted_version_is_replaced_by_the_newest_remaining_one(stubs, tmp_path):
    for name in "1", "00000002", "10":
        stubs(name)
    model = WatchedModel(tmp_path / "m")
    assert model.current.number == 10
    for name, before, after in ("10", 10, 2), ("00000002", 2, 1), ("1", 1, 1):
        shutil.rmtree(tmp_path / "m" / name)
        model.refresh()
        assert model.current.number == before  # it may be about to be replaced
        model.refresh()
        assert model.current.number == after
    shutil.rmtree(tmp_path / "m")
    model.refresh()
    assert model.current.number == 1
    assert Stub.loads == ["10", "00000002", "1"]


def test_a_version_may_be_missing_briefly_while_it_is_replaced(stubs, tmp_path):
    stubs("1")
    stubs("2")
    model = WatchedModel(tmp_path / "m")
    for _ in range(2):
        (tmp_path / "m/2").rename(tmp_path / "m/.replaced")
        model.refresh()
        (tmp_path / "m/.replaced").rename(tmp_path / "m/2")
        model.refresh()
    assert Stub.loads == ["2"]
    shutil.rmtree(tmp_path / "m/2")
    stubs("3")
    model.refresh()  # a newer version is loaded at once
    assert model.current.number == 3


def test_old_versions_are_freed_once_their_requests_end(stubs, tmp_path):
    stubs("1")
    model = WatchedModel(tmp_path / "m")
    held = [model.current]
    graph = held[0].graph = Graph()
    graph.itself = graph
    first = weakref.ref(graph)
    del graph
    for name in "2", "3":
        stubs(name)
        model.refresh()
    held.clear()
    model.refresh()
    assert first() is None


def test_concurrent_refreshes_load_once(stubs, tmp_path, monkeypatch):
    stubs("1")
    model = WatchedModel(tmp_path / "m")
    stubs("2")
    load = Stub.__init__
    monkeypatch.setattr(Stub, "__init__", lambda *arguments: [time.sleep(0.05), load(*arguments)][1])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: model.refresh(), range(8)))
    assert Stub.loads == ["1", "2"]


def test_the_watcher_survives_errors(stubs, tmp_path, monkeypatch, caplog):
    stubs("1")
    model = WatchedModel(tmp_path / "m")
    refresh, calls = model.refresh, []

    def sometimes():
        calls.append(1)
        if len(calls) == 1:
            raise OSError("stale file handle")
        refresh()

    monkeypatch.setattr(model, "refresh", sometimes)
    with TestClient(create_app(model, poll_seconds=0.01)):
        stubs("2")
        for _ in range(500):
            if model.current.number == 2:
                break
            time.sleep(0.01)
    assert model.current.number == 2
    assert "Cannot look for versions in" in caplog.text
    after = len(calls)
    time.sleep(0.05)
    assert len(calls) <= after + 1  # it stopped with the server


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "There is no folder .*nowhere"),
        ("m/1", "m/1 is one version of a model. Give the folder that holds its versions: .*/m[.]$"),
        (".", "There is no version of a SavedModel in .* Did you mean .*/m[?]"),
        (
            "empty",
            "There is no version of a SavedModel in .*empty, such as .*empty/1. Write one with",
        ),
    ],
)
def test_a_folder_without_versions_is_an_error_with_a_hint(stubs, tmp_path, path, message):
    stubs("1")
    (tmp_path / "empty/notes").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=message):
        WatchedModel(tmp_path / path)


def test_bad_names_and_broken_folders_are_rejected(stubs, tmp_path, monkeypatch):
    stubs("1", "broken")
    with pytest.raises(ValueError, match="No version in .*m can be loaded: {1: '.*m/1: broken'}"):
        WatchedModel(tmp_path / "m")
    stubs("1")
    for name in "a/b", "a:b":
        with pytest.raises(ValueError, match="must not be empty or contain / or :."):
            WatchedModel(tmp_path / "m", name)
    monkeypatch.chdir(tmp_path / "m")
    assert WatchedModel(".").name == "m"
    (tmp_path / "linked").symlink_to(tmp_path / "m")
    assert WatchedModel(tmp_path / "linked").name == "linked"


def test_predict_needs_a_post(client):
    answer = client.get("/v1/models/blobs:predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json() == {"error": "Send predict requests with POST."}
    assert client.get("/v1/models/blobs/versions/1:predict").status_code == 405
    assert client.get("/v1/models/blobs/", follow_redirects=False).status_code == 404


def test_head_requests_work_for_health_checks(client):
    for path in "/", "/explorer.json", "/v1/models/blobs", "/v1/models/blobs/metadata":
        assert (client.head(path).status_code, client.head(path).content) == (200, b"")
    assert client.head("/v1/models/flowers").status_code == 404


def test_other_methods_of_tensorflow_serving_are_rejected(client):
    for path in "/v1/models/blobs:classify", "/v1/models/blobs/versions/1:regress":
        answer = client.post(path, content=b"{}")
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("Signatures are called with :predict only. Received: :")


def test_new_versions_replace_the_old_one_and_its_memory(client, served, tmp_path):
    """The last test with `client`: it replaces what is served by a model of another kind."""
    first = served.current
    double = tf.function(lambda x: {"twice": 2 * x}, [tf.TensorSpec((None,), tf.float32, "x")])
    module = tf.Module()
    tf.saved_model.save(module, str(tmp_path / "new"), signatures={"double": double})
    (tmp_path / "new").rename(served.base_path / "2")
    served.refresh()
    assert client.get("/v1/models/blobs").json()["model_version_status"][0]["version"] == "2"
    assert first.predict("sample", {"n": np.int32(1), "seed": np.int32(0)})  # an open request keeps its version
    graph = weakref.ref(first.signatures["sample"].graph)
    del first
    served.refresh()
    assert graph() is None  # once the request is over, the memory is free
    assert predict(client, signature_name="double", inputs=[1.5]).json() == {"outputs": [3.0]}
    assert client.post("/v1/models/blobs/versions/1:predict", content=b"{}").status_code == 404
    answer = client.get("/explorer.json")
    assert (answer.status_code, answer.json()["error"][:36]) == (404, "The latent explorer needs a model ex")
