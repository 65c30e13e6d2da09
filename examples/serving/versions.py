"""The versions of an exported model: the newest is loaded, kept ready, and replaced without a pause."""

import contextlib
import gc
import json
import logging
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
        folder: `<name>/<version>`.
    """

    def __init__(self, folder: Path):
        self.number = int(folder.name)
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
        outputs = self.signatures[signature_name](**{name: tf.constant(array) for name, array in arrays.items()})
        return {name: outputs[name].numpy() for name in sorted(outputs)}

    def _warm_up(self, signature_name):
        """The first call is slow: it is not left to a client."""
        arrays = {
            name: np.ones([size or 1 for size in spec.shape], spec.dtype.as_numpy_dtype)
            for name, spec in self.specs(signature_name).items()
        }
        with contextlib.suppress(tf.errors.InvalidArgumentError):  # ones need not be values that it takes
            self.predict(signature_name, arrays)


class WatchedModel:
    """The newest version in a folder that can be loaded.

    Args:
        base_path: Folder with one folder per version, as TensorFlow Serving's.
        name: The model's name in the paths; by default the folder's.

    Raises:
        FileNotFoundError: If there is no version.
        ValueError: If none can be loaded.
    """

    def __init__(self, base_path: Path, name: str | None = None):
        self.base_path = Path(base_path)
        self.name = name or self.base_path.resolve().name
        self.failures: dict[int, str] = {}
        self.current: Version | None = None
        self._refreshing = threading.Lock()
        self._retired: weakref.ref | None = None  # the version before, while requests hold it
        if not self._numbers():
            raise FileNotFoundError(
                f"There is no version of a SavedModel in {self.base_path}, such as {self.base_path / '1'}. "
                f"Write one: keras_provlae.export.export_savedmodel(model, '{self.base_path}')"
            )
        self.refresh()
        if self.current is None:
            raise ValueError(f"No version in {self.base_path} can be loaded: {self.failures}")

    def refresh(self) -> None:
        """Loads the newest version unless it is there already.

        The version before it serves until then, and requests that hold it keep it to their end. One that cannot
        be loaded is passed over, and tried again the next time; a served one that is deleted makes way for
        the newest that is left, and serves on if none is.
        """
        with self._refreshing:
            if self._retired is not None and self._retired() is None:  # no request holds it any more
                self._clean_up()
            numbers = self._numbers()
            self.failures = {number: error for number, error in self.failures.items() if number in numbers}
            for number in reversed(numbers):
                if (self.current is not None and number == self.current.number) or self._load(number):
                    return

    def _load(self, number):
        """Whether the version could be loaded; then it is the current one."""
        try:
            version = Version(self.base_path / str(number))
        except Exception as error:  # whatever is wrong with the files, the server goes on
            if number not in self.failures:
                LOG.error("Version %d of %s cannot be loaded: %s", number, self.name, error)
            self.failures[number] = str(error)
            return False
        self.failures.pop(number, None)
        self._retired = None if self.current is None else weakref.ref(self.current)
        self.current = version
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
        if self._retired is not None and self._retired() is None:
            self._retired = None

    def _numbers(self):
        if not self.base_path.is_dir():
            return []
        names = [folder.name for folder in self.base_path.iterdir() if (folder / "saved_model.pb").is_file()]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _signature_defs(folder: Path) -> dict[str, Any]:
    """What `metadata` tells, in the JSON form of TensorFlow Serving."""
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return {
        name: MessageToDict(definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for name, definition in saved_model.meta_graphs[0].signature_def.items()
    }


def _read(path, reader):
    return reader(path) if path.is_file() else None
