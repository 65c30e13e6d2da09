"""What can be had without waiting: prepared tfds data, a network that answers; and one line to say so."""

import os
import sys
import threading
from pathlib import Path

from absl import logging

NETWORK_SECONDS = 3.0  # how long a host may take to answer before we go on without it


def tfds_is_prepared(name: str) -> bool:
    """Whether tensorflow-datasets has the data set on this machine; imports it only where that is possible."""
    if "tensorflow_datasets" not in sys.modules and not (_tfds_folder() / name).is_dir():
        return False
    import tensorflow_datasets as tfds

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # tfds warns of a folder that is not there
    try:
        return tfds.builder(name).is_prepared()
    finally:
        logging.set_verbosity(verbosity)


def _tfds_folder():
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def network_answers(url: str) -> bool:
    """Whether a host answers at all within `NETWORK_SECONDS`; never waits longer."""
    answered = threading.Event()

    def ask():
        import requests

        try:
            requests.head(url, timeout=NETWORK_SECONDS)
        except requests.RequestException:
            return
        answered.set()

    # a thread, since a time-out of requests does not cover the look-up of the host's name
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(NETWORK_SECONDS)
    return answered.is_set()


def keras_datasets() -> Path:
    """Where Keras keeps what it downloads: data put there are found."""
    return keras_home() / "datasets"


def keras_home() -> Path:
    """`~/.keras`, unless the environment says otherwise."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)
