import sys

import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.export import converted

EXPORTS = {"onnx": kp.export.export_onnx, "tflite": kp.export.export_litert}
NEEDS = {"onnx": ("tf2onnx", "onnxruntime"), "tflite": ("ai_edge_litert.interpreter",)}


def run(path, inputs):
    """Answers of the converted file: onnxruntime's or LiteRT's own API, batch by batch."""
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


def test_both_files_agree_with_the_model_at_any_batch(paths, growing_model, eight):
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
    name = {"onnx": "_run_onnx", "tflite": "_run_litert"}[suffix]
    run = getattr(converted, name)
    monkeypatch.setattr(converted, name, lambda *args: {k: v + 2e-5 for k, v in run(*args).items()})
    with pytest.raises(RuntimeError, match=r"encode.\w+ was not kept: its `\w+` differs from the model's by 2e-05"):
        EXPORTS[suffix](growing_model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_are_replaced_only_when_asked(paths, growing_model):
    suffix = paths["encode"].suffix[1:]
    with pytest.raises(FileExistsError, match="exists. Give another folder, or pass `overwrite=True`"):
        EXPORTS[suffix](growing_model, paths["encode"].parent)


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_a_missing_converter_names_the_extra(growing_model, tmp_path, monkeypatch, suffix):
    monkeypatch.setitem(sys.modules, NEEDS[suffix][0], None)
    with pytest.raises(ImportError, match=r"The converters are those of the extra `export`: pip install"):
        EXPORTS[suffix](growing_model, tmp_path)
