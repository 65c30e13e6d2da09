"""What an export says about itself, in a file that is read without loading the graph."""

import datetime
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

METADATA_FILE = Path("assets.extra") / "keras_provlae.json"  # the place that SavedModel leaves to others
FORMAT = 1


def describe(model: Any) -> dict[str, Any]:
    """The facts of a model that somebody who only has the export needs.

    Args:
        model: A `LadderVAE`.

    Returns:
        A dict of JSON values: `model` (class, preset, config), `image_shape`, `num_rungs`, `num_latents`,
        `rungs` (deepest first: number, first and last + 1 column, whether it is unlocked), `stage`, `alpha`
        and `iteration` (`None` for models that do not grow), `grown`, `versions`, `exported_at` (UTC).
    """
    unlocked = [float(value) > 0.0 for value in model.unlocked()]
    rungs = [
        {"rung": rung, "start": columns.start, "stop": columns.stop, "unlocked": is_unlocked}
        for (rung, columns), is_unlocked in zip(model.rung_slices, unlocked, strict=True)
    ]
    return {
        "format": FORMAT,
        "model": {"class": type(model).__name__, "preset": model.preset, "config": model.get_config()},
        "image_shape": list(model.image_shape),
        "num_rungs": model.num_rungs,
        "num_latents": rungs[-1]["stop"],
        "rungs": rungs,
        "stage": model.stage,
        "alpha": model.alpha,
        "iteration": model.iteration,
        "grown": is_grown(model),
        "versions": _versions(),
        "exported_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def is_grown(model: Any) -> bool:
    """Whether every rung is unlocked and faded in; models that do not grow always are."""
    return all(float(gate) == 1.0 for gate in model.decoder_gates())


def write_metadata(metadata: dict[str, Any], folder: Path) -> None:
    """Writes `metadata` into an export's folder."""
    (folder / METADATA_FILE).parent.mkdir(exist_ok=True)
    (folder / METADATA_FILE).write_text(to_text(metadata))


def to_text(metadata: dict[str, Any]) -> str:
    """`metadata` as JSON."""
    return json.dumps(metadata, indent=2) + "\n"


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What an exported SavedModel says about itself: read from a small file, no graph is loaded.

    Args:
        path: Folder of a version, or the folder of all versions: then the newest is read.

    Returns:
        A dict: `format` (of this file, 1), `model` (class, preset, config), `image_shape`, `num_rungs`, `num_latents`,
        `rungs` (deepest first: number, `start` and `stop` of its columns, `unlocked`), `stage`, `alpha` and
        `iteration` (optimiser steps), which are `None` for models that do not grow, `grown`, `signatures` (name ->
        inputs and outputs with dtype and shape), `versions` (of packages), `exported_at` (UTC).

    Raises:
        FileNotFoundError: If there is no export of this package at the path.

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
    """What has the name of a version in the folder of a model, by number, ascending.

    As for TensorFlow Serving, a version is a name of digits, with or without leading zeros.
    """
    if not folder.is_dir():
        return {}
    found = {int(child.name): child for child in folder.iterdir() if is_version(child.name)}
    return dict(sorted(found.items()))


def is_version(name: str) -> bool:
    """Whether a name is a version number."""
    return name.isascii() and name.isdigit()


def _versions():
    packages = {name: importlib.metadata.version(name) for name in ("keras", "tensorflow", "numpy")}
    own = sys.modules[__package__.partition(".")[0]].__version__
    return {"keras_provlae": own, **packages, "python": platform.python_version()}
