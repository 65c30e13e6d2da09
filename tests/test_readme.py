"""The README's first example runs with the base install only, without a network."""

import re
import socket
import sys

import pytest

import keras_provlae as kp
from tests.conftest import REPOSITORY

OF_EXTRAS = ("mlxtend", "imageio", "sklearn", "tensorboard", "tf2onnx", "onnxruntime", "ai_edge_litert", "fastapi")


@pytest.fixture
def _base_install_without_a_network(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    imported = [name for name in sys.modules if name.split(".")[0] in OF_EXTRAS]
    for name in {*OF_EXTRAS, *imported}:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_base_install_without_a_network")
def test_the_first_example_has_ten_lines_and_needs_only_the_base_install(monkeypatch, tmp_path):
    example = re.search("## Ten lines\n\n```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)[1]
    trained = []

    def fit(model, ds, **settings):  # training is covered by other tests
        trained.append((model.encode(next(iter(ds)))[0].shape, set(settings)))

    monkeypatch.setattr(kp.ProgressiveVAE, "fit", fit)
    exec(example, {})
    assert len([line for line in example.splitlines() if line.strip()]) == 10
    assert trained == [((100, 9), {"epochs", "steps_per_epoch", "callbacks"})]
    assert (tmp_path / "traversals.png").read_bytes().startswith(b"\x89PNG")
