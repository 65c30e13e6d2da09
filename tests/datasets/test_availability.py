import sys
import time

from keras_provlae.datasets import availability

URL = "https://localhost:1/nothing"


def test_a_silent_network_costs_no_more_than_its_time_out(monkeypatch):
    import requests

    monkeypatch.setattr(availability, "NETWORK_SECONDS", 0.2)
    monkeypatch.setattr(requests, "head", lambda *args, **kwargs: time.sleep(30))  # a look-up that hangs
    begin = time.monotonic()
    assert not availability.network_answers(URL)
    assert time.monotonic() - begin < 5


def test_a_network_that_answers_or_refuses_is_told_apart(monkeypatch):
    import requests

    monkeypatch.setattr(requests, "head", lambda *args, **kwargs: None)
    assert availability.network_answers(URL)

    def refuse(*args, **kwargs):
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", refuse)
    assert not availability.network_answers(URL)


def test_tfds_is_not_imported_where_it_has_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorflow_datasets", raising=False)
    assert not availability.tfds_is_prepared("mnist")
    assert "tensorflow_datasets" not in sys.modules


def test_the_home_of_keras_may_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert availability.keras_datasets() == tmp_path / "datasets"
