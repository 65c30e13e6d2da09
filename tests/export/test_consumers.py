"""Exports in other programs, which do not import this package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import keras_provlae as kp

HERE = Path(__file__).parent


def run(*command, folder, stdin=None):
    """Runs a program outside the repository; returns its standard output."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, input=stdin, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return done.stdout


def expected_answers(model, images):
    """Returns {signature: (inputs, the model's own outputs)}."""
    pair, others = images[:2], images[2:4]
    codes = np.array(model.encode(pair)[0])
    swapped, swept = codes.copy(), np.repeat(codes, 3, axis=0)
    swapped[:, 3:5] = np.array(model.encode(others)[0])[:, 3:5]
    values = np.array([-1, 0, 1], "float32")
    swept[:, 0] = np.tile(values, 2)
    drawn = [model.sample(4, rung=3, around=image[None], seed=5) for image in pair]
    numbers = {"rung": np.int32(3), "n": np.int32(4), "seed": np.int32(5)}
    answers = {
        "encode": ({"images": pair}, dict(zip(("mean", "log_var"), model.encode(pair), strict=True))),
        "reconstruct": ({"images": pair}, {"images": model.reconstruct(pair)}),
        "sample_rung": ({"images": pair, **numbers}, {"images": np.concatenate(drawn)}),
        "swap_rung": ({"images": pair, "others": others, "rung": np.int32(2)}, {"images": model.decode(swapped)}),
        "traverse": ({"images": pair, "latent": np.int32(0), "values": values}, {"images": model.decode(swept)}),
    }
    for name, (inputs, outputs) in list(answers.items()):
        integers = {key: np.rint(inputs[key] * 255).astype("uint8") for key in ("images", "others") if key in inputs}
        answers[f"{name}_uint8"] = ({**inputs, **integers}, outputs)
    files = np.array([tf.io.encode_png(image).numpy() for image in answers["encode_uint8"][0]["images"]])
    for name in "encode", "reconstruct":
        answers[f"{name}_image_bytes"] = ({"image_bytes": files}, answers[name][1])
    answers["serving_default"] = answers["reconstruct"]
    answers["decode"] = ({"codes": codes}, {"images": model.decode(codes)})
    answers["sample"] = ({"n": np.int32(4), "seed": np.int32(5)}, {"images": model.sample(4, seed=5)})
    return answers


@pytest.mark.serving
def test_tensorflow_runs_every_signature_without_keras(exported, growing_model, eight, tmp_path):
    answers = expected_answers(growing_model, eight)
    assert set(answers) == set(kp.export.read_metadata(exported)["signatures"])
    inputs = {
        f"{signature}/{name}": array for signature, (given, _) in answers.items() for name, array in given.items()
    }
    np.savez(tmp_path / "inputs.npz", **inputs)
    run(sys.executable, HERE / "tensorflow_only.py", exported, "inputs.npz", "outputs.npz", folder=tmp_path)
    received = np.load(tmp_path / "outputs.npz")
    for signature, (_, outputs) in answers.items():
        for name, array in outputs.items():
            np.testing.assert_allclose(received[f"{signature}/{name}"], array, atol=1e-6, err_msg=signature)


def test_a_session_runs_and_checks_the_graph(exported, growing_model):
    """TensorFlow's C API and its bindings run the graph in a session, without any Python code of the export."""
    codes = np.random.default_rng(0).standard_normal((5, 6), dtype="float32")
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.loader.load(session, ["serve"], str(exported))
        source, target = operations(exported, "decode")
        images = session.run(target, {source: codes})
        with pytest.raises(tf.errors.InvalidArgumentError, match="`codes` must be finite"):
            session.run(target, {source: np.full((1, 6), np.nan, "float32")})
        nodes = [*graph.as_graph_def().node]
        nodes += [node for function in graph.as_graph_def().library.function for node in function.node_def]
    assert not {node.op for node in nodes if "PyFunc" in node.op}
    np.testing.assert_allclose(images, growing_model.decode(codes), atol=1e-6)


@pytest.mark.serving
def test_saved_model_cli_shows_every_signature(exported, tmp_path):
    cli = Path(sys.executable).with_name("saved_model_cli")
    shown = run(cli, "show", "--dir", exported, "--tag_set", "serve", "--all", folder=tmp_path).decode()
    assert set(re.findall(r"signature_def\['(\w+)'\]", shown)) >= set(kp.export.read_metadata(exported)["signatures"])


@pytest.mark.serving
def test_saved_model_cli_runs_signatures(exported, growing_model, eight, tmp_path):
    np.save(tmp_path / "images.npy", eight[:1])
    for name, number in {"rung": 3, "n": 4, "seed": 5}.items():
        np.save(tmp_path / f"{name}.npy", np.int32(number))
    cli = Path(sys.executable).with_name("saved_model_cli")
    names = ";".join(f"{name}={name}.npy" for name in ("images", "rung", "n", "seed"))
    run(
        cli, "run", "--dir", exported, "--tag_set", "serve", "--signature_def", "sample_rung", "--inputs", names,
        "--outdir", "out", folder=tmp_path,
    )  # fmt: skip
    expected = growing_model.sample(4, rung=3, around=eight[:1], seed=5)
    np.testing.assert_allclose(np.load(tmp_path / "out/images.npy"), expected, atol=1e-6)


@pytest.fixture(scope="module")
def decode_program(tmp_path_factory):
    """`decode.c`, compiled with the headers and libraries of the TensorFlow wheel."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    library, program = tf.sysconfig.get_lib(), tmp_path_factory.mktemp("c") / "decode"
    run(
        "gcc", "-Wall", "-Werror", f"-I{tf.sysconfig.get_include()}", HERE / "decode.c", "-o", program,
        f"-L{library}", "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{library}",
        folder=program.parent,
    )  # fmt: skip
    return program


def operations(exported, signature):
    """Returns the names of a signature's single input and output in the graph, which the C API needs."""
    saved = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    definition = saved.meta_graphs[0].signature_def[signature]
    return [tensor.name for tensors in (definition.inputs, definition.outputs) for tensor in tensors.values()]


@pytest.mark.serving
def test_a_c_program_decodes(decode_program, exported, growing_model, tmp_path):
    codes = np.random.default_rng(0).standard_normal((5, 6), dtype="float32")
    answer = run(decode_program, exported, *operations(exported, "decode"), 6, folder=tmp_path, stdin=codes.tobytes())
    images = np.frombuffer(answer, "float32").reshape(5, 8, 8, 1)
    np.testing.assert_allclose(images, growing_model.decode(codes), atol=1e-6)


@pytest.mark.serving
def test_the_c_program_gets_the_errors_of_the_graph(decode_program, exported):
    for codes, latents, message in (np.full(6, np.nan, "float32"), 6, b"must be finite"), (np.zeros(5), 5, b"[?,6]"):
        command = [str(decode_program), str(exported), *operations(exported, "decode"), str(latents)]
        done = subprocess.run(command, input=codes.astype("float32").tobytes(), capture_output=True)
        assert done.returncode == 1
        assert message in done.stderr


@pytest.mark.serving
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_models_of_other_backends_are_exported(backend, tmp_path, eight):
    pytest.importorskip(backend)
    script = """if True:
        import keras, numpy as np, keras_provlae as kp
        model = kp.ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=2, channels=4, dense=8)
        model.grow(fade_in_steps=0)
        images = np.load("images.npy")
        np.save("mean.npy", keras.ops.convert_to_numpy(model.encode(images)[0]))
        path = kp.export.export_savedmodel(model, "served/blobs", example_images=images)
        onnx = kp.export.export_onnx(model, "onnx")["encode"]
        print(keras.backend.backend(), path, kp.export.read_metadata(path)["stage"], onnx)"""
    np.save(tmp_path / "images.npy", eight)
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert done.stdout.split() == [backend, "served/blobs/1", "1", "onnx/encode.onnx"], done.stderr[-3000:]
    loaded = tf.saved_model.load(str(tmp_path / "served/blobs/1"))
    np.testing.assert_allclose(loaded.encode(eight)["mean"], np.load(tmp_path / "mean.npy"), atol=1e-5)
