"""ONNX and LiteRT exports of the encoder and the decoder, compared with the model before they are kept."""

import importlib
import os
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_provlae.export import metadata
from keras_provlae.export.savedmodel import check_model
from keras_provlae.export.tensorflow_process import in_tensorflow

TOLERANCE = 1e-5
PARTS = ("encode", "decode")
OUTPUTS = ("mean", "log_var", "images")
EXTRA = {  # {format: {module: package}}
    "onnx": {"tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"},
    "tflite": {"ai_edge_litert.interpreter": "ai-edge-litert"},
}


def export_onnx(model: keras.Model, folder: str | os.PathLike, overwrite: bool = False) -> dict[str, Path]:
    """Writes `encode.onnx` and `decode.onnx`. Needs the extra `export`.

    `encode` maps `images`, float32 `(batch, height, width, channels)` in [0, 1], to `mean` and `log_var`,
    `(batch, latents)`, the deepest rung's columns first. `decode` maps `codes` to `images`. The batch size is dynamic.
    The graphs do not check values: an image outside [0, 1] gives a code too. They do not decode PNG or JPEG files: only
    TensorFlow has the operators. The metadata of the model is written to `onnx_metadata.json`.

    Args:
        model: A `LadderVAE`, exported at its current stage.
        folder: Output folder, created if missing.
        overwrite: Whether to replace existing files.

    Returns:
        `{"encode": path, "decode": path}`.

    Raises:
        TypeError: If `model` is not a `LadderVAE`.
        ValueError: If the model does not compute in float32.
        FileExistsError: If a file exists and `overwrite` is false.
        ImportError: If tf2onnx, onnxruntime or TensorFlow is missing.
        RuntimeError: If onnxruntime's outputs differ from the model's by more than 1e-5 (relative for values above 1).
            On JAX and PyTorch also if the TensorFlow process that writes the files fails.

    Example:
        >>> import keras_provlae as kp
        >>> model = kp.VLAE((8, 8, 1), num_rungs=2, latent_dim=3, channels=4, dense=8, dtype="mixed_bfloat16")
        >>> export_onnx(model, "onnx")
        Traceback (most recent call last):
        ...
        ValueError: Only float32 models can be converted. Received: dtype policy mixed_bfloat16. Convert a copy: ...

    Source: ONNX, opset 15.
    """
    return _export(model, Path(folder).expanduser(), overwrite, "onnx")


def export_litert(model: keras.Model, folder: str | os.PathLike, overwrite: bool = False) -> dict[str, Path]:
    """Writes `encode.tflite` and `decode.tflite` for LiteRT (formerly TensorFlow Lite). Needs the extra `export`.

    Each file has one signature, `encode` or `decode`, with the inputs and outputs of `export_onnx`. The batch size is
    dynamic: `interpreter.get_signature_runner("encode")` resizes the input. The metadata of the model is written to
    `tflite_metadata.json`.

    Args:
        model: A `LadderVAE`, exported at its current stage.
        folder: Output folder, created if missing.
        overwrite: Whether to replace existing files.

    Returns:
        `{"encode": path, "decode": path}`.

    Raises:
        TypeError, ValueError, FileExistsError: As `export_onnx`.
        ImportError: If ai-edge-litert or TensorFlow is missing.
        RuntimeError: As `export_onnx`, for LiteRT's outputs.

    Source: LiteRT, float32, no quantization.
    """
    return _export(model, Path(folder).expanduser(), overwrite, "tflite")


def _export(model, folder, overwrite, suffix):
    check_model(model)
    _check_precision(model)
    _check_extra(suffix)
    paths = {part: folder / f"{part}.{suffix}" for part in PARTS}
    existing = [str(path) for path in (*paths.values(), folder / f"{suffix}_metadata.json") if path.exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{', '.join(existing)} exist. Give another folder, or pass `overwrite=True`.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=folder) as temporary:
        write_converted(model, temporary, suffix)
        for file in list(Path(temporary).iterdir()):
            os.replace(file, folder / file.name)
    return paths


def write_converted(model: keras.Model, folder: str, suffix: str) -> None:
    """Writes both files and the metadata; on JAX and PyTorch in a TensorFlow process."""
    if keras.backend.backend() != "tensorflow":
        in_tensorflow("keras_provlae.export.converted:write_converted", model, folder, suffix)
        return
    import tensorflow as tf

    # plain functions: these formats have no assertions, so the checks of the SavedModel signatures are left out
    def encode(images):
        mean, log_var = model.encode(images)
        return {"mean": mean, "log_var": log_var}

    def decode(codes):
        return {"images": model.decode(codes)}

    rng = np.random.default_rng(0)
    latents = model.rung_slices[-1][1].stop
    inputs = {
        "encode": (encode, "images", rng.random((3, *model.image_shape), dtype="float32")),
        "decode": (decode, "codes", rng.standard_normal((3, latents), dtype="float32")),
    }
    write, run = {"onnx": (_write_onnx, _run_onnx), "tflite": (_write_litert, _run_litert)}[suffix]
    metadata.write(metadata.describe(model), Path(folder) / f"{suffix}_metadata.json")
    for part, (function, name, example) in inputs.items():
        spec = tf.TensorSpec((None, *example.shape[1:]), tf.float32, name)
        traced = tf.function(function, [spec], autograph=False)
        file = Path(folder) / f"{part}.{suffix}"
        write(part, traced, file)
        _compare(file, run(part, file, {name: example}), traced(example))


def _check_precision(model):
    if model.compute_dtype != "float32":
        raise ValueError(
            f"Only float32 models can be converted. Received: dtype policy {model.dtype_policy.name}. Convert a copy: "
            "copy = type(model).from_config({**model.get_config(), 'dtype': 'float32'}); "
            "copy.set_weights(model.get_weights())"
        )


def _check_extra(suffix):
    try:
        for name in EXTRA[suffix]:
            importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{error}. The converters come with the extra `export`: pip install {' '.join(EXTRA[suffix].values())}."
        ) from error


def _compare(file, received, expected):
    if set(received) != set(expected):
        raise RuntimeError(f"{file.name} must have the outputs {sorted(expected)}. Received: {sorted(received)}.")
    for name, values in expected.items():
        values = np.asarray(values)
        error = np.max(np.abs(received[name] - values) / np.maximum(np.abs(values), 1.0))
        if not error <= TOLERANCE:  # NaN as well
            raise RuntimeError(
                f"{file.name} was not kept: its `{name}` differs from the model's by {error:.2g}, "
                f"more than {TOLERANCE:g}."
            )


def _write_onnx(part, traced, file):
    import onnx
    import tf2onnx

    file_model, _ = tf2onnx.convert.from_function(traced, input_signature=traced.input_signature, opset=15)
    graph = file_model.graph
    outputs = sorted(graph.output, key=lambda output: OUTPUTS.index(output.name))
    del graph.output[:]
    graph.output.extend(outputs)  # `mean` first, as from `model.encode`
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(file_model, file)


def _run_onnx(part, file, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _write_litert(part, traced, file):
    import tensorflow as tf

    from keras_provlae.export.signatures import used_variables

    module = tf.Module()
    concrete = traced.get_concrete_function()
    module.function, module.used_variables = traced, used_variables(concrete)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={part: concrete})
        file.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[part]).convert())


def _run_litert(part, file, inputs):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(file)).get_signature_runner(part)(**inputs)
