"""Prepares data for tensorflow-datasets and reads them, in a process of its own."""

import os
import subprocess
import sys

from tests.conftest import REPOSITORY

MARK = "=== prepared ===\n"


def prepare_and_read(folder, prepare, read):
    """Runs both scripts with `folder` as tfds's own and as argument; returns the process, with the second's output."""
    environment = {**os.environ, "TFDS_DATA_DIR": str(folder), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", f"{prepare}\nprint({MARK!r}, end='')\n{read}", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    _, done.stdout = done.stdout.split(MARK)
    return done
