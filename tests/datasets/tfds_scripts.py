"""Prepares data for tensorflow-datasets and reads them, each in a process of its own."""

import os
import subprocess
import sys

from tests.conftest import REPOSITORY


def prepare_and_read(folder, prepare, read):
    """Runs both scripts with `folder` as tfds's own and as argument; returns the second, finished."""
    environment = {**os.environ, "TFDS_DATA_DIR": str(folder), "PYTHONPATH": str(REPOSITORY)}
    for script in prepare, read:
        command = [sys.executable, "-c", script, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    return done
