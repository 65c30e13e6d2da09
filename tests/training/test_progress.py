"""The progress lines of `fit`: their numbers, their width and when they are printed."""

import re

import keras
import pytest

import keras_provlae as kp
from keras_provlae.training import progress
from keras_provlae.training.progress import SHOWN, progress_line

LONG = dict.fromkeys(SHOWN, -123456.789) | {"alpha": 0.5, "stage": 2.0, "kl_rung_1": 3.0}


def test_a_line_fits_its_width_and_keeps_the_loss():
    line = progress_line(1234, 12345, LONG, seconds=7200.0, width=79)
    assert len(line) <= 79
    assert line.startswith("1234/12345 ")
    assert "loss -1.2346e+05" in line
    assert "kl_rung_1" not in line


def test_a_wide_terminal_shows_all_six_numbers():
    line = progress_line(5, 10, LONG, seconds=1.0, width=200)
    assert re.findall(r"  (\w+) ", line) == list(SHOWN)
    assert "━━━━━━━━━━──────────" in line


@pytest.mark.parametrize(
    ("seconds", "expected"), [(3.0, "9s 100ms/step"), (120.0, "6:00 4.0s/step"), (3000.0, "2:30:00 100.0s/step")]
)
def test_the_time_left_and_the_time_of_a_step(seconds, expected):
    assert expected in progress_line(30, 120, {}, seconds, width=79)


@pytest.mark.parametrize("redrawn", [True, False])
def test_fit_prints_lines_of_at_most_80_columns(make_model, images, capsys, monkeypatch, redrawn):
    monkeypatch.setattr(progress, "_is_redrawn", lambda: redrawn)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setenv("COLUMNS", "80")
    model = make_model(kp.ProgressiveVAE, num_rungs=1)
    model.compile(run_eagerly=True)
    history = model.fit(images[:4], batch_size=2, epochs=2, validation_data=images[:2])
    model.evaluate(images[:2], verbose=1)
    printed = capsys.readouterr().out
    lines = [line for line in re.split("[\r\n]", printed) if line.strip()]
    assert max(map(len, lines)) < 80
    names = set(re.findall(r"  ([a-z_]+\d?) ", printed))
    assert {"loss", "elbo", "stage"} <= names <= set(SHOWN)
    assert {"kl_rung_1", "val_reconstruction"} <= set(history.history)
    assert len(lines) == (2 * (1 + 3) + 2 if redrawn else 2 * 2 + 1)


@pytest.mark.parametrize("settings", [{"verbose": 0}, {"callbacks": [keras.callbacks.ProgbarLogger()]}])
def test_fit_shows_one_bar_or_none(make_model, images, capsys, settings):
    model = make_model(kp.VLAE, num_rungs=1)
    model.compile(run_eagerly=True)
    model.fit(images[:8], **settings)
    printed = capsys.readouterr().out
    assert ("kl_rung_1:" in printed) == ("callbacks" in settings)
    assert "  loss " not in printed
