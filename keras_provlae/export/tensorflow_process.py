"""Export from other backends: the model travels as a `.keras` file to a process that runs TensorFlow."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras


def in_tensorflow(function: str, model: keras.Model, *arguments: Any) -> None:
    """Calls a function of this package on a copy of the model, in a new Python process whose backend is TensorFlow.

    Args:
        function: `"module:name"`; it is called with the copy and `arguments`.
        model: A model of a class of this package.
        *arguments: Paths and JSON values.

    Raises:
        RuntimeError: If the process fails, with the end of what it printed.
    """
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
            f"SavedModels are written by TensorFlow, and the process that does it for the {keras.backend.backend()} "
            "backend failed. Save the model as a `.keras` file, load it with KERAS_BACKEND=tensorflow and export it "
            f"there. The process printed:\n{done.stderr[-2000:]}"
        )


def main(function: str, file: str, arguments: str) -> None:
    """What the new process does; the package is imported already, so its classes are registered."""
    module, name = function.split(":")
    model = keras.models.load_model(file, compile=False)
    getattr(importlib.import_module(module), name)(model, *json.loads(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
