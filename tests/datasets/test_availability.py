import sys
import time
import types

import pytest
import requests

from keras_provlae.datasets import availability

URL = "https://localhost:1/nothing"


def test_a_host_that_hangs_costs_no_more_than_the_timeout(monkeypatch):
    assert availability.NETWORK_SECONDS == 3.0
    monkeypatch.setattr(availability, "NETWORK_SECONDS", 0.2)
    monkeypatch.setattr(requests, "head", lambda *args, **kwargs: time.sleep(30))  # such as a slow DNS lookup
    begin = time.monotonic()
    assert not availability.network_answers(URL)
    assert time.monotonic() - begin < 5


def test_a_host_answers_or_refuses(monkeypatch):
    monkeypatch.setattr(requests, "head", lambda *args, **kwargs: None)
    assert availability.network_answers(URL)

    def refuse(*args, **kwargs):
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", refuse)
    assert not availability.network_answers(URL)


@pytest.mark.parametrize("prepared", [False, True])
def test_tfds_is_imported_only_if_its_folder_has_the_data_set(monkeypatch, tmp_path, prepared):
    (tmp_path / "tensorflow_datasets.py").write_text(
        "class builder:\n    __init__ = lambda self, name: None\n    is_prepared = lambda self: True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # restores the real module at the end
    del sys.modules["tensorflow_datasets"]
    if prepared:
        (tmp_path / "mnist").mkdir()
    assert availability.tfds_is_prepared("mnist") == prepared
    assert ("tensorflow_datasets" in sys.modules) == prepared


def test_tfds_is_asked_if_it_is_imported(monkeypatch, tmp_path):
    """It may have other data folders."""
    builder = types.SimpleNamespace(is_prepared=lambda: True)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", types.SimpleNamespace(builder=lambda name: builder))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert availability.tfds_is_prepared("mnist")


def test_keras_home_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert availability.keras_datasets() == tmp_path / "datasets"
