"""Metadata of an export: a JSON file that can be read without loading the graph."""

import contextlib
import datetime
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

METADATA_FILE = Path("assets.extra") / "keras_provlae.json"  # the folder that SavedModel reserves for user files
FORMAT = 1


def describe(model: Any) -> dict[str, Any]:
    """Returns the metadata of a `LadderVAE`: the entries of `read_metadata` without `signatures`."""
    rungs = [
        {"rung": rung, "start": columns.start, "stop": columns.stop, "unlocked": rung in model.unlocked_rungs}
        for rung, columns in model.rung_slices
    ]
    return {
        "format": FORMAT,
        "model": {"class": type(model).__name__, "preset": model.preset, "config": model.get_config()},
        "image_shape": list(model.image_shape),
        "num_rungs": model.num_rungs,
        "num_latents": rungs[-1]["stop"],
        "rungs": rungs,
        "latent_names": model.latent_names,
        "stage": model.stage,
        "alpha": model.alpha,
        "iteration": model.iteration,
        "grown": is_complete(model),
        "versions": _versions(),
        "exported_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def is_complete(model: Any) -> bool:
    """Returns whether every rung is unlocked and faded in."""
    return model.is_grown and model.alpha == 1.0


def write(metadata: dict[str, Any], file: Path) -> None:
    """Writes metadata as JSON."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(metadata, indent=2) + "\n")


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Reads the metadata of an exported SavedModel without loading its graph.

    Args:
        path: Folder of a version, or the folder of all versions, whose newest is read.

    Returns:
        A dict: `format` (version of this file format, 1), `model` (class, preset, config), `image_shape`, `num_rungs`,
        `num_latents`, `rungs` (deepest first: `rung`, `start` and `stop` of its columns, `unlocked`), `latent_names`
        (or `None`), `stage`, `alpha`, `iteration` (optimizer steps), `grown` (whether every rung is unlocked and faded
        in), `signatures` (name -> inputs and outputs with dtype and shape), `versions` (of packages), `exported_at`
        (UTC).

    Raises:
        FileNotFoundError: If the path holds no export of this package.

    Example:
        >>> read_metadata("no/such/export")
        Traceback (most recent call last):
        ...
        FileNotFoundError: There is no exported model in no/such/export: no assets.extra/keras_provlae.json in it...
    """
    folder = Path(path).expanduser()
    if not (folder / METADATA_FILE).is_file():
        folder = [folder, *filter(Path.is_dir, version_folders(folder).values())][-1]
    if not (folder / METADATA_FILE).is_file():
        raise FileNotFoundError(
            f"There is no exported model in {path}: no {METADATA_FILE} in it or in its newest version. "
            "Write one with `export.export_savedmodel(model, path)`."
        )
    return json.loads((folder / METADATA_FILE).read_text())


def version_folders(folder: Path) -> dict[int, Path]:
    """Returns `{number: path}` of the versions in a model's folder, ascending.

    Like TensorFlow Serving, takes every name of digits, with or without leading zeros.
    """
    if not folder.is_dir():
        return {}
    found = {int(child.name): child for child in folder.iterdir() if is_version(child.name)}
    return dict(sorted(found.items()))


def is_version(name: str) -> bool:
    """Returns whether a file name is a version number."""
    return name.isascii() and name.isdigit()


def _versions():
    packages = {}
    for name in "keras", "tensorflow", "numpy":
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # JAX and PyTorch do without TensorFlow
            packages[name] = importlib.metadata.version(name)
    own = sys.modules[__package__.partition(".")[0]].__version__
    return {"keras_provlae": own, **packages, "python": platform.python_version()}
