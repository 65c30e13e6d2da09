"""The CSV log: a column for every name, whenever it first appears."""

import csv
import os
import types

import keras
import pytest

from keras_provlae import GrowthCallback
from keras_provlae.callbacks import CSVLogger, InformationFlow
from keras_provlae.visualization import training_curves

MODEL = types.SimpleNamespace(metrics=[])


def begun(logger, model=MODEL, params=None):
    logger.set_model(model)
    logger.set_params({} if params is None else params)
    logger.on_train_begin()
    return logger


def log(logger, *epochs, first=0, **how):
    """Runs the logger over epochs with these logs."""
    begun(logger, **how)
    for epoch, logs in enumerate(epochs, start=first):
        logger.on_epoch_end(epoch, logs)
    logger.on_train_end()


def rows(path, delimiter=","):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter, strict=True))


def test_validation_every_other_epoch_is_logged_as_keras_does(tmp_path):
    epochs = [{"loss": 4.0}, {"loss": 3.0, "val_loss": 3.5}, {"loss": 2.0}, {"loss": 1.0, "val_loss": 1.5}]
    log(keras.callbacks.CSVLogger(tmp_path / "keras.csv"), *epochs)
    log(CSVLogger(tmp_path / "new" / "log.csv", data="a, b"), *epochs)
    ours = rows(tmp_path / "new" / "log.csv")
    assert [row.pop("data") for row in ours] == ["a, b"] * 4
    assert ours == rows(tmp_path / "keras.csv")
    assert epochs[1] == {"loss": 3.0, "val_loss": 3.5}  # `History` gets no column of texts
    assert [row["val_loss"] for row in ours] == ["NA", "3.5", "NA", "1.5"]


def test_the_file_gives_the_same_curves_as_the_history(tmp_path):
    first = {"loss": 3.25, "reconstruction": 3.0, "kl_rung_1": 0.25}
    epochs = [first, {**first, "val_loss": 3.5, "val_reconstruction": 3.0}, first]
    log(CSVLogger(tmp_path / "log.csv", data="blobs", separator=";"), *epochs)
    history = keras.callbacks.History()
    history.set_model(types.SimpleNamespace())
    log(history, *epochs, model=history.model)
    drawn = [
        [(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
        for axes in training_curves(tmp_path / "log.csv").axes
    ]
    for axes, expected in zip(training_curves(history).axes, drawn, strict=True):
        for line, (label, x, y) in zip(axes.lines, expected, strict=True):
            assert (line.get_label(), list(line.get_xdata()), list(line.get_ydata())) == (label, x, y)
    assert [x for label, x, _ in drawn[0] if label == "val_loss"] == [[2]]


def test_a_later_name_gets_a_column_and_a_kill_leaves_a_complete_file(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    (tmp_path / "link.csv").symlink_to(path)
    logger = begun(CSVLogger(tmp_path / "link.csv", data="tab\tand\nline", separator="\t"))
    logger.on_epoch_end(0, {"z": 1.0})
    before = path.read_bytes()

    def killed(file):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            logger.on_epoch_end(1, {"z": 2.0, "a": [1, 2]})
    assert path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.csv", "log.csv"]
    logger.on_epoch_end(1, {"z": 2.0, "a": [1, 2]})
    logger.on_epoch_end(2, {"a": 3})
    data = {"data": "tab\tand\nline"}
    assert rows(path, "\t") == [
        {"epoch": "0", **data, "z": "1.0", "a": "NA"},
        {"epoch": "1", **data, "z": "2.0", "a": "[1, 2]"},
        {"epoch": "2", **data, "z": "NA", "a": "3"},
    ]
    assert (tmp_path / "link.csv").is_symlink()


def test_a_resumed_training_keeps_the_columns_of_the_file(tmp_path, capsys):
    path = tmp_path / "log.csv"
    log(CSVLogger(path, "x", append=True), {"loss": 4.0, "mig": 0.1})
    path.write_text(path.read_text() + '1,"x')  # cut off by a kill
    log(CSVLogger(path, "x", append=True), {"mig": 0.2, "loss": 3.0, "val_mig": 1}, {"loss": 2.0}, {"new": 1}, first=1)
    assert "removed the last line, which was cut off" in capsys.readouterr().out
    assert [list(row.values()) for row in rows(path)] == [
        ["0", "x", "4.0", "0.1", "NA", "NA"],
        ["1", "x", "3.0", "0.2", "1", "NA"],
        ["2", "x", "2.0", "NA", "NA", "NA"],
        ["3", "x", "NA", "NA", "NA", "1"],
    ]
    path.write_text("epoch,data,loss\n0,x,4.0")  # no newline at the end
    log(CSVLogger(path, "x", append=True), {"loss": 3.0}, first=1)
    assert [row["loss"] for row in rows(path)] == ["4.0", "3.0"]


def test_another_header_is_rejected_before_the_first_epoch(make_model, images, tmp_path):
    path, model = tmp_path / "log.csv", make_model(num_rungs=1)
    path.write_text("epoch,data,kl_rung_1,loss\n0,x,1,1\n")
    before, params = path.read_bytes(), {}
    begun(CSVLogger(path, "x", append=True), model)
    for callback in InformationFlow(images), GrowthCallback():
        begun(callback, model, params)
    names = "growth_shock, i_over, mi_rung_1, mi_total"
    message = rf"log.csv has epoch, data, kl_rung_1, loss; this training also logs {names}. Give"
    with pytest.raises(ValueError, match=message):
        begun(CSVLogger(path, "x", append=True), model, params)
    other = types.SimpleNamespace(metrics=[types.SimpleNamespace(name="kl_rung_2")])
    with pytest.raises(ValueError, match="this training also logs kl_rung_2. Give another `filename`"):
        begun(CSVLogger(path, "x", append=True), other)
    with pytest.raises(ValueError, match=r"separated by ';'. Received: .*log.csv, which begins with 'epoch,data,kl_"):
        begun(CSVLogger(path, "x", separator=";", append=True))
    assert path.read_bytes() == before
    log(keras.callbacks.CSVLogger(path), {"loss": 1.0})
    with pytest.raises(ValueError, match="has epoch, loss, val_loss; this training also logs data"):
        begun(CSVLogger(path, "x", append=True))


def test_a_column_first_seen_in_the_first_epoch_is_rejected(tmp_path):
    path = tmp_path / "log.csv"
    log(CSVLogger(path, "x"), {"loss": 4.0})
    before = path.read_bytes()
    logger = begun(CSVLogger(path, "x", append=True))
    message = r"has epoch, data, loss; this training also logs lr. .*unlogged row: {'loss': 3.0, 'lr': 0.1, 'epoch': 1"
    with pytest.raises(ValueError, match=message):
        logger.on_epoch_end(1, {"loss": 3.0, "lr": 0.1})
    assert path.read_bytes() == before


@pytest.mark.parametrize("separator", ["", ", ", "e", ".", "\n", '"', 5])
def test_an_invalid_separator_is_rejected(separator):
    with pytest.raises(ValueError, match="`separator` must be one character"):
        CSVLogger("log.csv", "x", separator=separator)


def test_invalid_files_are_rejected_before_the_first_epoch(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"The log cannot be written to .*file: .*Give a folder that can be"):
        begun(CSVLogger(tmp_path / "file" / "log.csv", "x"))
    for path in tmp_path, "/dev/null":
        with pytest.raises(ValueError, match="`filename` must be a regular file"):
            begun(CSVLogger(path, "x"))
    with pytest.raises(ValueError, match="folder of this machine. Received: filename=gs://bucket/log.csv"):
        CSVLogger("gs://bucket/log.csv", "x")
    with pytest.raises(TypeError, match="`filename` must be a path. Received: filename=None"):
        CSVLogger(None, "x")
    with pytest.raises(TypeError, match="`data` must name the data"):
        CSVLogger(tmp_path / "log.csv", None)
    log(CSVLogger(tmp_path / "log.csv", "\udcff 猫"), {"loss": 1.0})  # a file name that is not UTF-8
    assert rows(tmp_path / "log.csv")[0]["data"] == r"\udcff 猫"
