import gc
import json
import shutil
import weakref

import numpy as np
import orjson
import pytest

import keras_provlae as kp

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient
from serving import versions
from serving.app import Limits, create_app
from serving.versions import Version, WatchedModel


@pytest.fixture(scope="module")
def served(exported, tmp_path_factory):
    """A folder of versions of its own, with version 1."""
    folder = tmp_path_factory.mktemp("watched") / "blobs"
    shutil.copytree(exported, folder / "1")
    yield WatchedModel(folder)
    gc.unfreeze()  # the server's process is its own, this one is not


@pytest.fixture(scope="module")
def client(served):
    with TestClient(create_app(served, Limits(body_bytes=200_000, images=64), poll_seconds=60)) as client:
        yield client


def predict(client, **body):
    return client.post("/v1/models/blobs:predict", content=orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


def test_rows_give_predictions(client, growing_model, eight):
    answer = predict(client, instances=eight[:3])
    np.testing.assert_allclose(answer.json()["predictions"], growing_model.reconstruct(eight[:3]), atol=1e-6)
    named = predict(client, instances=[{"images": image} for image in eight[:3]], signature_name="serving_default")
    assert named.json() == answer.json()


def test_several_outputs_have_names_in_every_row(client, growing_model, eight):
    rows = predict(client, signature_name="encode", instances=eight[:2]).json()["predictions"]
    mean, _ = growing_model.encode(eight[:2])
    np.testing.assert_allclose([row["mean"] for row in rows], mean, atol=1e-6)
    assert set(rows[0]) == {"mean", "log_var", *(f"{n}_rung_{r}" for n in ("mean", "log_var") for r in (1, 2, 3))}


def test_columns_give_outputs(client, growing_model, eight):
    inputs = {"images": eight[:1], "rung": 3, "n": 4, "seed": 0}
    answer = predict(client, signature_name="sample_rung", inputs=inputs).json()["outputs"]
    np.testing.assert_allclose(answer, growing_model.sample(4, rung=3, around=eight[:1], seed=0), atol=1e-6)
    mean, log_var = growing_model.encode(eight[:2])
    answer = predict(client, signature_name="encode", inputs=eight[:2]).json()["outputs"]
    np.testing.assert_allclose(answer["log_var"], log_var, atol=1e-6)
    integers = np.rint(eight[:2] * 255).astype("uint8")
    answer = predict(client, signature_name="encode_uint8", inputs={"images": integers}).json()["outputs"]
    np.testing.assert_allclose(answer["mean"], mean, atol=1e-6)


def test_status_and_metadata_are_tensorflow_serving_s(client):
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


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\xff\x00 random", "The body must be JSON"),
        (b"", "The body must be JSON"),
        (b"[" * 5000, "The body must be JSON"),
        (b"[1]", "must be a JSON object. Received: a list"),
        ({}, "either `inputs` (columns) or `instances` (rows)"),
        ({"inputs": IMAGE, "instances": IMAGE}, "either `inputs` (columns) or `instances` (rows)"),
        ({"signature_name": 3, "inputs": IMAGE}, "`signature_name` must be a string. Received: a number"),
        ({"signature_name": "rotate", "inputs": IMAGE}, "There is no signature 'rotate'. Known: decode, encode, enc"),
        ({"instances": []}, "`instances` must be a list that is not empty"),
        ({"instances": [{"images": IMAGE[0]}, {"image": IMAGE[0]}]}, "All `instances` must name the same inputs"),
        ({"inputs": {"image": IMAGE}}, "has the inputs ['images']. Received: ['image']"),
        ({"signature_name": "swap_rung", "inputs": IMAGE}, "has several inputs, so name them: ['images', 'others'"),
        ({"inputs": [[1, 2], [3]]}, "`images` must be a number or lists of equal lengths"),
        ({"inputs": "image"}, "`images` must hold numbers, in lists of equal lengths. Received: string"),
        ({"inputs": None}, "`images` must hold numbers, in lists of equal lengths. Received: null"),
        ({"inputs": {"images": True}}, "`images` must hold numbers, in lists of equal lengths. Received: boolean"),
        ({"inputs": {"images": {"b64": "AAAA"}}}, "`images` must hold numbers, in lists of equal lengths. Received: o"),
        ({"inputs": np.zeros((1, 8, 9, 1)).tolist()}, "must have the shape ('any', 8, 8, 1). Received: (1, 8, 9, 1)."),
        ({"instances": np.zeros((8, 8, 1)).tolist()}, "must have the shape ('any', 8, 8, 1). Received: (8, 8, 1)."),
        (b'{"inputs": NaN}', "The body must be JSON, without NaN"),
        (b'{"inputs": ' + b"[" * 200 + b"]" * 200 + b"}", "`images` must be a number or lists of equal lengths"),
        (
            {"inputs": np.full((1, 8, 8, 1), 255.0).tolist()},
            "must hold finite values in [0, 1], or uint8 values; lowest",
        ),
        ({"inputs": np.full((1, 8, 8, 1), 1e300).tolist()}, "must hold finite values in [0, 1], or uint8"),
        ({"signature_name": "decode", "inputs": [[1e300] * 6]}, "`codes` must be finite"),
        (
            {"signature_name": "encode_uint8", "inputs": np.full((1, 8, 8, 1), 256).tolist()},
            "must be uint8, 0 .. 255. Re",
        ),
        (
            {"signature_name": "encode_uint8", "inputs": np.full((1, 8, 8, 1), 0.5).tolist()},
            "`images` must hold integers",
        ),
        ({"signature_name": "sample", "inputs": {"n": 2.0, "seed": 0}}, "`n` must hold integers"),
        ({"signature_name": "sample", "inputs": {"n": 0, "seed": 0}}, "`n` must be at least 1; received: 0"),
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
            "`latent` must be 0 .. 5, a column of the code; received: 6",
        ),
        ({"inputs": IMAGE * 65}, "at most 64 images. Received: 65."),
        (
            {"signature_name": "swap_rung", "inputs": {"images": IMAGE, "others": IMAGE * 2, "rung": 1}},
            "`images` and `others` must be batches of the same size; received: 1 2",
        ),
    ],
    ids=str,
)
def test_malformed_requests_are_400_and_say_what_was_wrong(client, body, message):
    content = body if isinstance(body, bytes) else json.dumps(body)
    answer = client.post("/v1/models/blobs:predict", content=content)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_long_bodies_are_refused_before_they_are_read(client):
    for content in b" " * 200_001, (b" " * 50_000 for _ in range(5)):  # with a content-length, and in chunks
        answer = client.post("/v1/models/blobs:predict", content=content)
        assert (answer.status_code, answer.json()["error"]) == (413, "The body must not be longer than 200000 bytes.")
    packed = client.post("/v1/models/blobs:predict", content=b"1", headers={"content-encoding": "gzip"})
    assert packed.status_code == 415


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
def test_what_is_not_there_is_a_404(client, path, message):
    answer = client.get(path)
    assert answer.status_code == 404
    assert message in answer.json()["error"]


def test_the_explorer_gets_a_page_and_the_facts(client, exported, eight):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert 'src="http' not in page.text  # nothing from elsewhere
    facts = client.get("/explorer.json").json()
    assert (facts["name"], facts["version"]) == ("blobs", 1)
    assert facts["metadata"] == kp.export.read_metadata(exported)
    assert np.array_equal(facts["examples"], np.rint(eight[:5] * 255))


def test_new_versions_are_picked_up_and_broken_ones_passed_over(client, served, monkeypatch):
    loads = []

    class Counted(Version):
        def __init__(self, folder):
            loads.append(folder.name)
            super().__init__(folder)

    monkeypatch.setattr(versions, "Version", Counted)
    first, folder = served.current, served.base_path
    (folder / "5").mkdir()  # being copied: no saved_model.pb yet
    shutil.copytree(folder / "1", folder / "2")
    served.refresh()
    assert client.get("/v1/models/blobs").json()["model_version_status"][0]["version"] == "2"
    assert first.predict("sample", {"n": np.int32(1), "seed": np.int32(0)})  # a request in flight keeps its version
    graph = weakref.ref(first.signatures["sample"].graph)
    del first
    served.refresh()
    assert graph() is None  # and when it is over, the memory is free
    (folder / "5/saved_model.pb").write_bytes(b"broken")
    served.refresh()
    assert served.current.number == 2
    states = client.get("/v1/models/blobs").json()["model_version_status"]
    assert [(state["version"], state["state"]) for state in states] == [("2", "AVAILABLE"), ("5", "END")]
    assert client.get("/v1/models/blobs/versions/5").json()["model_version_status"] == states[1:]
    shutil.rmtree(folder / "5")
    shutil.rmtree(folder / "2")
    served.refresh()  # back to the version before
    assert served.current.number == 1
    shutil.move(folder / "1", folder.with_name("away"))
    served.refresh()  # nothing left: it serves on
    assert predict(client, signature_name="sample", inputs={"n": 1, "seed": 0}).status_code == 200
    shutil.move(folder.with_name("away"), folder / "1")
    served.refresh()
    assert loads == ["2", "5", "1"]


def test_without_a_version_it_says_how_to_get_one(tmp_path, exported):
    (tmp_path / "digits/notes").mkdir(parents=True)
    message = r"There is no version of a SavedModel in .*digits, such as .*digits/1. Write one: keras_provlae.export"
    with pytest.raises(FileNotFoundError, match=message):
        WatchedModel(tmp_path / "digits")
    (tmp_path / "digits/1").mkdir()
    (tmp_path / "digits/1/saved_model.pb").write_bytes(b"broken")
    with pytest.raises(ValueError, match="No version in .*digits can be loaded: {1: "):
        WatchedModel(tmp_path / "digits")
