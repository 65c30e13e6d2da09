"""Checks which data sources are available right now, without a long wait."""

import os
import sys
import threading
from pathlib import Path

from absl import logging

from keras_provlae.lazy_tensorflow import is_installed, tensorflow_datasets

NETWORK_SECONDS = 3.0  # longest wait for a host to answer


def tfds_is_prepared(name: str) -> bool:
    """Returns whether tensorflow-datasets has prepared the data set; imports it only if the folder exists."""
    if "tensorflow_datasets" not in sys.modules and not (_tfds_folder() / name).is_dir():
        return False
    if not is_installed("tensorflow_datasets"):
        return False  # another installation has prepared it
    tfds = tensorflow_datasets(f"The prepared {name}")
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # tfds warns about a missing folder
    try:
        return tfds.builder(name).is_prepared()
    finally:
        logging.set_verbosity(verbosity)


def _tfds_folder():
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def network_answers(url: str) -> bool:
    """Returns whether a host answers within `NETWORK_SECONDS`; never waits longer."""
    answered = threading.Event()

    def ask():
        import requests

        try:
            requests.head(url, timeout=NETWORK_SECONDS)
        except requests.RequestException:
            return
        answered.set()

    # a thread, since the timeout of requests does not cover the DNS lookup
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(NETWORK_SECONDS)
    return answered.is_set()


def keras_datasets() -> Path:
    """Returns the folder where Keras stores downloads, `~/.keras/datasets` by default."""
    return keras_home() / "datasets"


def keras_home() -> Path:
    """Returns `$KERAS_HOME`, or `~/.keras` if it is not set."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
