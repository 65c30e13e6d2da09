"""TensorFlow and tensorflow-datasets, imported when they are first used: JAX and PyTorch do without them."""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

MISSING = (
    "{what} needs {package}, which is not installed: `pip install {package}` (on a machine that trains with JAX or "
    "PyTorch, `tensorflow-cpu` will do). Without it, arrays and Python batches train as well; a ground truth gives the "
    "batches of `tf_dataset` by `truth.batches(batch_size, seed=0)`."
)


def is_installed(name: str) -> bool:
    """Returns whether a module can be imported, without importing it."""
    return sys.modules.get(name) is not None or importlib.util.find_spec(name) is not None


def check_tensorflow(what: str) -> None:
    """Checks that TensorFlow is installed, without importing it.

    Args:
        what: What needs it, such as "`GroundTruth.tf_dataset`"; the error message starts with it.

    Raises:
        ImportError: If it is not installed.

    Example:
        >>> check_tensorflow("`GroundTruth.tf_dataset`")
    """
    if not is_installed("tensorflow"):
        raise ImportError(MISSING.format(what=what, package="tensorflow"))


def tensorflow_datasets(what: str) -> ModuleType:
    """Imports tensorflow-datasets.

    Args:
        what: What needs it.

    Returns:
        The module.

    Raises:
        ImportError: If it, or TensorFlow, is not installed.
    """
    check_tensorflow(what)
    if not is_installed("tensorflow_datasets"):
        raise ImportError(MISSING.format(what=what, package="tensorflow-datasets"))
    return importlib.import_module("tensorflow_datasets")


class _TensorFlow:
    """Stands for the module `tensorflow`, and imports it when an attribute is read."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # tools that look at every global of a module must not import TensorFlow
        try:
            import tensorflow
        except ModuleNotFoundError:
            check_tensorflow("This")
            raise
        return getattr(tensorflow, name)


if TYPE_CHECKING:
    import tensorflow as tf
else:
    tf = _TensorFlow()
