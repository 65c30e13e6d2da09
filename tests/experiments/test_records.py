import json
import threading
import time

import pytest

from keras_provlae.experiments import records
from keras_provlae.experiments.records import append_result, only_one, read_results


def test_results_are_read_as_they_were_written(tmp_path):
    results = [{"key": "a", "mig": 0.5, "run": {"seed": 0}}, {"key": "b", "mig": None}]
    for result in results:
        append_result(tmp_path, result)
    assert list(read_results(tmp_path).values()) == results
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_truncated_line_is_ignored_and_replaced(tmp_path, cut):
    append_result(tmp_path, {"key": "a"})
    file = tmp_path / "results.jsonl"
    file.write_text(file.read_text() + json.dumps({"key": "b", "mig": 0.25})[:cut])
    assert list(read_results(tmp_path)) == ["a"]
    append_result(tmp_path, {"key": "b", "mig": 0.5})
    assert read_results(tmp_path) == {"a": {"key": "a"}, "b": {"key": "b", "mig": 0.5}}


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"key": "a"}\nnonsense\n{"key": "b"}\n')
    with pytest.raises(ValueError, match=r"Line 2 of .*results.jsonl is not a valid result"):
        read_results(tmp_path)


def test_nan_is_rejected_and_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        append_result(tmp_path, {"key": "a", "mig": float("nan")})
    assert read_results(tmp_path) == {}


def test_a_folder_has_one_runner_at_a_time(tmp_path):
    with only_one(tmp_path), pytest.raises(RuntimeError, match="Another process is using"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_process_can_wait_for_the_lock(tmp_path):
    order = []

    def second():
        with only_one(tmp_path, wait=True):
            order.append("second")

    thread = threading.Thread(target=second)
    with only_one(tmp_path):
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(timeout=60)
    assert order == ["first", "second"]


def test_a_truncated_line_of_any_length_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BLOCK", 7)
    for text in ("", '{"key": "a"}\n', '{"key": "a", "more": "0123456789"}\n{"key": "b"}\n'):
        (tmp_path / "results.jsonl").write_text(text + '{"key": "cut off somewh')
        append_result(tmp_path, {"key": "z"})
        assert (tmp_path / "results.jsonl").read_text() == text + '{"key": "z"}\n'
