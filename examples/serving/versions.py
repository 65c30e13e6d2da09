"""The versions of an exported model: the newest is loaded, kept ready, and replaced without a pause."""

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

EXTRA = "assets.extra"  # where an export of keras_provlae keeps what is no part of the graph
LOG = logging.getLogger("uvicorn.error")


class Version:
    """One loaded version of a SavedModel, with every signature called once.

    Args:
        number: Its number.
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
        """Inputs of a signature by name."""
        return self.signatures[signature_name].structured_input_signature[1]

    def predict(self, signature_name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of a signature by name.

        Raises:
            tf.errors.InvalidArgumentError: If the graph refuses the values.
        """
        specs = self.specs(signature_name)
        inputs = {name: tf.constant(array, specs[name].dtype) for name, array in arrays.items()}
        outputs = self.signatures[signature_name](**inputs)
        return {name: outputs[name].numpy() for name in sorted(outputs)}

    def _warm_up(self, signature_name):
        """The first call is slow: it is not left to a client."""
        image = tf.io.encode_png(np.zeros((1, 1, 1), "uint8")).numpy()  # for strings, which may be such files
        arrays = {
            name: np.full(
                [size or 1 for size in spec.shape],
                image if spec.dtype == tf.string else 1,
                spec.dtype.as_numpy_dtype,
            )
            for name, spec in self.specs(signature_name).items()
        }
        with contextlib.suppress(tf.errors.InvalidArgumentError):  # these need not be values that it takes
            self.predict(signature_name, arrays)


class WatchedModel:
    """The newest version in a folder that can be loaded.

    Args:
        base_path: Folder with one folder per version, as TensorFlow Serving's.
        name: The model's name in the paths; by default the folder's.

    Raises:
        FileNotFoundError: If there is no version.
        ValueError: If none can be loaded, or the name cannot be part of a path.
    """

    def __init__(self, base_path: str | Path, name: str | None = None):
        self.base_path = Path(base_path)
        self.name = name or Path(os.path.abspath(base_path)).name
        if not self.name or set(self.name) & set("/:"):
            raise ValueError(f"The model's name must not be empty, nor have / or : in it. Received: {self.name!r}.")
        self.current: Version | None = None
        self._failed: dict[int, tuple[list, str]] = {}  # files as they were, and the error
        self._missing = False  # whether the served version was not there the last time
        self._retired: list[weakref.ref] = []  # versions before, while requests hold them
        self._refreshing = threading.Lock()
        if not self._folders():
            raise FileNotFoundError(_no_version(self.base_path))
        self.refresh()
        if self.current is None:
            raise ValueError(f"No version in {self.base_path} can be loaded: {self.failures}")

    @property
    def failures(self) -> dict[int, str]:
        """Why versions that are there could not be loaded, by number."""
        return {number: error for number, (_, error) in list(self._failed.items())}

    def refresh(self) -> None:
        """Loads the newest version unless it is there already.

        The version before it serves until then, and requests that hold it keep it to their end. One that cannot
        be loaded is passed over until its files change. A served one that is deleted, and missing twice, makes way
        for the newest that is left, and serves on if none is.
        """
        with self._refreshing:
            if any(version() is None for version in self._retired):  # no request holds it any more
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
        """Whether the version could be loaded; then it is the current one."""
        files = _files(folder)
        if number in self._failed and self._failed[number][0] == files:
            return False
        try:
            version = Version(number, folder)
        except Exception as error:  # whatever is wrong with the files, the server goes on
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
        """Frees what nobody uses; what is left, some 300,000 objects, is not looked through again.

        Otherwise every few large requests would wait 0.2 s for Python's garbage collector.
        """
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._retired = [version for version in self._retired if version() is not None]

    def _folders(self):
        return _version_folders(self.base_path)


def _version_folders(base_path):
    """Folders of versions by number: names of digits, leading zeros or not, with a SavedModel in them."""
    if not base_path.is_dir():
        return {}
    folders = [child for child in base_path.iterdir() if child.name.isascii() and child.name.isdigit()]
    return {int(folder.name): folder for folder in folders if (folder / "saved_model.pb").is_file()}


def _files(folder):
    """Names, sizes and times of what is in a folder: changed when it is being copied."""
    files = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            status = path.lstat()
            files.append((str(path), status.st_size, status.st_mtime_ns))
    return files


def _no_version(path):
    """What to do instead of serving this path."""
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
    """What `metadata` tells, in the JSON form of TensorFlow Serving."""
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return {
        name: MessageToDict(definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for name, definition in saved_model.meta_graphs[0].signature_def.items()
    }


def _read(path, reader):
    return reader(path) if path.is_file() else None
