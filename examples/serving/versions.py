"""Loads the newest version of an exported model and replaces it without downtime."""

import contextlib
import gc
import json
import logging
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import saved_model_pb2

EXTRA = "assets.extra"  # where keras_provlae stores metadata and example images
LOG = logging.getLogger("uvicorn.error")


class Version:
    """One loaded version of a SavedModel, warmed up by one call of every signature.

    Args:
        number: The version number.
        folder: `<name>/<version>`.
    """

    def __init__(self, number: int, folder: Path):
        self.number = number
        self.signature_defs = _signature_defs(folder)
        self.signatures = dict(tf.saved_model.load(str(folder)).signatures)
        self.metadata = _read(folder / EXTRA / "keras_provlae.json", lambda path: json.loads(path.read_text()))
        self.example_images = _read(folder / EXTRA / "example_images.npy", np.load)
        for name in self.signatures:
            self._warm_up(name)

    def specs(self, signature_name: str) -> dict[str, tf.TensorSpec]:
        """Returns the inputs of a signature by name."""
        return self.signatures[signature_name].structured_input_signature[1]

    def predict(self, signature_name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature by name.

        Raises:
            tf.errors.InvalidArgumentError: If the graph rejects the values.
        """
        specs = self.specs(signature_name)
        inputs = {name: tf.constant(array, specs[name].dtype) for name, array in arrays.items()}
        outputs = self.signatures[signature_name](**inputs)
        return {name: outputs[name].numpy() for name in sorted(outputs)}

    def _warm_up(self, signature_name):
        """Makes the slow first call of a signature."""
        image = tf.io.encode_png(np.zeros((1, 1, 1), "uint8")).numpy()  # for inputs of strings
        arrays = {
            name: np.full(
                [size or 1 for size in spec.shape],
                image if spec.dtype == tf.string else 1,
                spec.dtype.as_numpy_dtype,
            )
            for name, spec in self.specs(signature_name).items()
        }
        with contextlib.suppress(tf.errors.InvalidArgumentError):  # the signature may reject these values
            self.predict(signature_name, arrays)


class WatchedModel:
    """Serves the newest version in a folder that can be loaded.

    Args:
        base_path: Folder with one folder per version, as for TensorFlow Serving.
        name: Name of the model in URLs; default: the folder's name.

    Raises:
        FileNotFoundError: If there is no version.
        ValueError: If no version can be loaded, or the name cannot be part of a URL.
    """

    def __init__(self, base_path: str | Path, name: str | None = None):
        self.base_path = Path(base_path)
        self.name = name or Path(os.path.abspath(base_path)).name
        if not self.name or set(self.name) & set("/:"):
            raise ValueError(f"The model's name must not be empty or contain / or :. Received: {self.name!r}.")
        self.current: Version | None = None
        self._failed: dict[int, tuple[list, str]] = {}  # its files at that time, and the error
        self._missing = False  # whether the served version was gone at the last refresh
        self._retired: list[weakref.ref] = []  # replaced versions that requests may still use
        self._refreshing = threading.Lock()
        if not self._folders():
            raise FileNotFoundError(_no_version(self.base_path))
        self.refresh()
        if self.current is None:
            raise ValueError(f"No version in {self.base_path} can be loaded: {self.failures}")

    @property
    def failures(self) -> dict[int, str]:
        """Errors of the versions that could not be loaded, by number."""
        return {number: error for number, (_, error) in list(self._failed.items())}

    def refresh(self) -> None:
        """Loads the newest version unless it is already loaded.

        The old version serves until the new one is ready; open requests finish on it. A version that cannot be loaded
        is skipped until its files change. If the served version is missing in two refreshes, the newest remaining one
        replaces it; if there is none, it keeps serving.
        """
        with self._refreshing:
            if self._retired:  # perhaps no request uses it any more
                self._clean_up()
            folders = self._folders()
            self._failed = {number: failed for number, failed in self._failed.items() if number in folders}
            missing = self.current is not None and self.current.number not in folders
            self._missing, missing_again = missing, missing and self._missing
            if missing and not missing_again and max(folders, default=0) < self.current.number:
                return  # it may be about to be replaced
            for number, folder in sorted(folders.items(), reverse=True):
                if (self.current is not None and number == self.current.number) or self._load(number, folder):
                    return

    def _load(self, number, folder):
        """Tries to load a version and make it the current one; returns whether that worked."""
        files = _files(folder)
        if number in self._failed and self._failed[number][0] == files:
            return False
        try:
            version = Version(number, folder)
        except Exception as error:  # broken files of any kind must not stop the server
            if number not in self._failed:
                LOG.error("Version %d of %s in %s cannot be loaded: %s", number, self.name, folder, error)
            self._failed[number] = files, f"{folder}: {error}"
            return False
        self._failed.pop(number, None)
        if self.current is not None:
            self._retired.append(weakref.ref(self.current))
        self.current, self._missing = version, False
        self._clean_up()
        LOG.info("Serving version %d of %s", number, self.name)
        return True

    def _clean_up(self):
        """Collects garbage, then exempts the surviving 300,000 objects from later collections.

        Otherwise every few large requests would wait 0.2 s for Python's garbage collector.
        """
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._retired = [version for version in self._retired if version() is not None]

    def _folders(self):
        return _version_folders(self.base_path)


def _version_folders(base_path):
    """Returns version folders by number: names of digits, with or without leading zeros, that hold a SavedModel."""
    if not base_path.is_dir():
        return {}
    folders = [child for child in base_path.iterdir() if child.name.isascii() and child.name.isdigit()]
    return {int(folder.name): folder for folder in folders if (folder / "saved_model.pb").is_file()}


def _files(folder):
    """Returns names, sizes and times of the files in a folder, which change while it is copied."""
    files = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
            status = path.lstat()
            files.append((str(path), status.st_size, status.st_mtime_ns))
    return files


def _no_version(path):
    """Builds the message for a path without versions."""
    if not path.exists():
        return f"There is no folder {path}."
    if (path / "saved_model.pb").is_file():
        return f"{path} is one version of a model. Give the folder that holds its versions: {path.absolute().parent}."
    models = [str(child) for child in sorted(path.glob("*")) if _version_folders(child)]
    hint = (
        f"Did you mean {' or '.join(models)}?" if models else "Write one with keras_provlae.export.export_savedmodel."
    )
    return f"There is no version of a SavedModel in {path}, such as {path / '1'}. {hint}"


def _signature_defs(folder: Path) -> dict[str, Any]:
    """Returns the signatures in TensorFlow Serving's JSON form."""
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return {
        name: MessageToDict(definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for name, definition in saved_model.meta_graphs[0].signature_def.items()
    }


def _read(path, reader):
    return reader(path) if path.is_file() else None
