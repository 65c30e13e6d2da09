"""A progress line for `fit` and `evaluate` that fits a terminal of 80 columns."""

import math
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

import keras
from absl import logging

SHOWN = ("loss", "elbo", "stage", "alpha", "val_loss", "val_elbo")
BY_IMPORTANCE = ("loss", "elbo", "val_elbo", "stage", "alpha", "val_loss")
BAR_WIDTH = 20
INTERVAL = 0.1  # seconds between two drawings: reading a value waits for the device


class ProgressBar(keras.callbacks.ProgbarLogger):
    """`keras.callbacks.ProgbarLogger` that shows the loss, the ELBO, the stage and alpha instead of every logged value.

    Terminals and notebooks redraw one line; a file gets one line per epoch. If the line is too long for the terminal,
    it drops the bar, then `val_loss`, alpha and the stage. `History`, `CSVLogger` and TensorBoard have all values.

    Example:
        >>> progress_line(step=30, steps=120, logs={"loss": 110.25, "elbo": -110.25}, seconds=3.0, width=79)
        '30/120 ━━━━━─────────────── 9s 100ms/step  loss 110.25  elbo -110.25'
    """

    async_safe = True  # it may be called from another thread, as Keras calls its own

    _in_fit = False

    def set_params(self, params):
        self.params = params

    def on_train_begin(self, logs=None):
        self._in_fit = True

    def on_train_end(self, logs=None):
        self._in_fit = False

    def on_epoch_begin(self, epoch, logs=None):
        self._begin()
        epochs = self.params["epochs"]
        if epochs > 1:
            _write(f"Epoch {epoch + 1}/{epochs}\n")

    def on_train_batch_end(self, batch, logs=None):
        self._draw(batch + 1, logs)

    def on_epoch_end(self, epoch, logs=None):
        self._finish(logs)

    def on_test_begin(self, logs=None):
        if not self._in_fit:
            self._begin()

    def on_test_batch_end(self, batch, logs=None):
        if not self._in_fit:
            self._draw(batch + 1, logs)

    def on_test_end(self, logs=None):
        if not self._in_fit:
            self._finish(logs)

    def _begin(self):
        self._step, self._drawn, self._length = 0, 0.0, 0
        self._started = time.perf_counter()
        self._redraws = self.params["verbose"] != 2 and _is_redrawn()

    def _draw(self, step, logs):
        self._step = step
        now = time.perf_counter()
        if self._redraws and now - self._drawn >= INTERVAL:
            self._drawn = now
            self._write_over(progress_line(step, self.params["steps"], logs or {}, now - self._started, _width()))

    def _finish(self, logs):
        seconds = time.perf_counter() - self._started
        line = progress_line(self._step, self.params["steps"] or self._step, logs or {}, seconds, _width(), done=True)
        self._write_over(line)
        _write("\n")

    def _write_over(self, line):
        _write(("\r" if self._length else "") + line.ljust(self._length))
        self._length = len(line) if self._redraws else 0


def progress_line(
    step: int, steps: int | None, logs: Mapping[str, Any], seconds: float, width: int, done: bool = False
) -> str:
    """Formats one line about a pass over the data.

    Args:
        step: Int. Batches seen so far.
        steps: Int or `None`. Batches in the pass, if known.
        logs: `{name: float or scalar tensor}`; names of `SHOWN` are shown.
        seconds: Float. Time since the first batch.
        width: Int. Maximum number of characters; loss and ELBO are always shown.
        done: Bool. Whether the pass is over: shows the elapsed time, without a bar.

    Returns:
        A string without a line break.
    """
    values = {name: f"{name} {_number(name, logs[name])}" for name in SHOWN if name in logs}
    per_step = seconds / max(step, 1)
    left = seconds if done or not steps else per_step * max(steps - step, 0)
    head, tail = f"{step}/{steps}" if steps else f"{step}", f"{_duration(left)} {_per_step(per_step)}"

    def line(bar=""):
        return "  ".join([" ".join(part for part in (head, bar, tail) if part), *values.values()])

    for name in reversed(BY_IMPORTANCE[2:]):
        if len(line()) > width:
            values.pop(name, None)
    if done or not steps:
        return line()
    room = min(width - len(line()) - 1, BAR_WIDTH)
    full = int(room * min(step / steps, 1.0))
    return line("━" * full + "─" * (room - full)) if room >= 5 else line()


def _number(name, value):
    value = float(keras.ops.convert_to_numpy(value))
    if name == "stage":
        return f"{value:.0f}"
    return f"{value:.2f}" if name == "alpha" else f"{value:.5g}"


def _duration(seconds):
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"


def _per_step(seconds):
    return f"{seconds:.1f}s/step" if seconds >= 1 else f"{math.ceil(seconds * 1e3)}ms/step"


def _width():
    return shutil.get_terminal_size((80, 24)).columns - 1


def _is_redrawn():
    return sys.stdout.isatty() or "ipykernel" in sys.modules


def _write(text):
    if keras.config.is_interactive_logging_enabled():
        sys.stdout.write(text)
        sys.stdout.flush()
    elif text.strip():
        logging.info(text.strip())
