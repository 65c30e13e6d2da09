"""Export from JAX and PyTorch: a TensorFlow process loads the model from a `.keras` file."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras

from keras_provlae.lazy_tensorflow import check_tensorflow


def in_tensorflow(function: str, model: keras.Model, *arguments: Any) -> None:
    """Calls a function of this package on a copy of the model, in a new process on the TensorFlow backend.

    Args:
        function: `"module:name"`, called with the copy and `arguments`.
        model: A model of this package.
        *arguments: Paths and JSON values.

    Raises:
        ImportError: If TensorFlow is not installed.
        RuntimeError: If the process fails; the message has the end of its output.
    """
    check_tensorflow("An export")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        model.save(file)
        done = subprocess.run(
            [sys.executable, "-m", __name__, function, str(file), json.dumps(arguments, default=str)],
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
        )
    if done.returncode != 0:
        raise RuntimeError(
            f"The TensorFlow process that exports for the {keras.backend.backend()} backend failed. Save the model as "
            "a `.keras` file, load it with KERAS_BACKEND=tensorflow and export it there. The process printed:\n"
            f"{done.stderr[-2000:]}"
        )


def main(function: str, file: str, arguments: str) -> None:
    """Entry point of the new process. `python -m` has imported the package, so its classes are registered."""
    module, name = function.split(":")
    model = keras.models.load_model(file, compile=False)
    getattr(importlib.import_module(module), name)(model, *json.loads(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
