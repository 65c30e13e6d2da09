import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.export import converted

EXPORTS = {"onnx": kp.export.export_onnx, "tflite": kp.export.export_litert}
NEEDS = {"onnx": ("tf2onnx", "onnxruntime"), "tflite": ("ai_edge_litert.interpreter",)}


def run(path, inputs):
    """Runs a converted file with onnxruntime's or LiteRT's own API."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path)).get_signature_runner(path.stem)(**inputs)


@pytest.fixture(scope="module", params=["onnx", "tflite"])
def paths(request, growing_model, tmp_path_factory):
    for name in NEEDS[request.param]:
        pytest.importorskip(name)
    return EXPORTS[request.param](growing_model, tmp_path_factory.mktemp("converted") / "new")


def test_both_files_match_the_model_at_any_batch_size(paths, growing_model, eight):
    assert [paths[part].name.split(".")[0] for part in ("encode", "decode")] == ["encode", "decode"]
    for images in eight, eight[:1]:
        mean, log_var = growing_model.encode(images)
        received = run(paths["encode"], {"images": images})
        assert set(received) == {"mean", "log_var"}
        np.testing.assert_allclose(received["mean"], mean, atol=1e-5)
        np.testing.assert_allclose(received["log_var"], log_var, atol=1e-5)
        received = run(paths["decode"], {"codes": np.asarray(mean)})
        np.testing.assert_allclose(received["images"], growing_model.decode(mean), atol=1e-5)


def test_a_file_that_differs_is_not_kept(paths, growing_model, tmp_path, monkeypatch):
    suffix = paths["encode"].suffix[1:]
    write, name = {"onnx": ("_write_onnx", "_run_onnx"), "tflite": ("_write_litert", "_run_litert")}[suffix]
    run = getattr(converted, name)
    monkeypatch.setattr(converted, write, lambda part, traced, file: shutil.copy(paths[part], file))
    monkeypatch.setattr(converted, name, lambda *args: {k: v + 2e-5 for k, v in run(*args).items()})
    with pytest.raises(RuntimeError, match=r"encode.\w+ was not kept: its `\w+` differs from the model's by 2e-05"):
        EXPORTS[suffix](growing_model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_are_replaced_only_when_asked(paths, growing_model, monkeypatch):
    suffix, folder = paths["encode"].suffix[1:], paths["encode"].parent
    seen = []

    def write(model, temporary, suffix):
        seen.append(Path(temporary).parent)
        for part in "encode", "decode":
            (Path(temporary) / f"{part}.{suffix}").write_text("new")

    monkeypatch.setattr(converted, "write_converted", write)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match="encode.*decode.* exist. Give another folder, or"):
        EXPORTS[suffix](growing_model, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert EXPORTS[suffix](growing_model, folder, overwrite=True) == paths
    assert [path.read_text() for path in paths.values()] == ["new", "new"]
    assert seen == [folder]  # renames stay within one file system
    for name, content in before.items():
        (folder / name).write_bytes(content)


def test_metadata_is_written_beside_the_files(paths):
    suffix, folder = paths["encode"].suffix[1:], paths["encode"].parent
    metadata = json.loads((folder / f"{suffix}_metadata.json").read_text())
    assert len(list(folder.iterdir())) == 3
    assert (metadata["stage"], metadata["image_shape"]) == (1, [8, 8, 1])


def test_onnx_outputs_are_ordered_and_have_a_batch_dimension(paths):
    if paths["encode"].suffix != ".onnx":
        pytest.skip("LiteRT's outputs have no order")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(paths["encode"]))
    assert [(output.name, output.shape) for output in session.get_outputs()] == [
        ("mean", ["batch", 6]),
        ("log_var", ["batch", 6]),
    ]
    assert session.get_inputs()[0].shape == ["batch", 8, 8, 1]


@pytest.mark.parametrize(
    ("received", "message"),
    [
        ({"mean": np.array([100.0, 1.0 + 1.1e-5])}, "its `mean` differs from the model's by 1.1e-05, more than 1e-05"),
        ({"mean": np.array([100.0011, 1.0])}, "differs from the model's by 1.1e-05"),
        ({"mean": np.array([np.nan, 1.0])}, "differs from the model's by nan"),
        ({"mean": np.array([100.0, 1.0]), "more": np.zeros(1)}, "must have the outputs"),
    ],
)
def test_differences_are_relative_for_values_above_1(received, message):
    expected = {"mean": np.array([100.0, 1.0])}
    converted._compare(Path("encode.onnx"), {"mean": np.array([100.0009, 1.0 + 9e-6])}, expected)
    converted._compare(Path("encode.onnx"), {"mean": np.array([1e-3 + 9e-6])}, {"mean": np.array([1e-3])})
    with pytest.raises(RuntimeError, match=message):
        converted._compare(Path("encode.onnx"), received, expected)


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_a_missing_converter_names_the_extra(growing_model, tmp_path, monkeypatch, suffix):
    monkeypatch.setitem(sys.modules, NEEDS[suffix][0], None)
    with pytest.raises(ImportError, match="with the extra `export`: pip install (tf2onnx onnxruntime|ai-edge-litert)"):
        EXPORTS[suffix](growing_model, tmp_path)
