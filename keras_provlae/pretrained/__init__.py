"""Pretrained models: for each preset that has them, weights in float16 and a model card, as data of the package."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the presets that have weights.

    Example:
        >>> "shapes3d_32" in names()
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def card(name: str) -> dict[str, Any]:
    """Returns the model card of a preset that has weights.

    Args:
        name: One of `names()`.

    Returns:
        A dict: `class` and `config` of the model, `latent_names` (or `None`); `recipe` (all settings of the training),
        `seed`, `data`, `seconds` and `machine` of the training; `metrics` (a `MetricCard` as a dict, or `None`),
        `information` (I(x; z_l) in nats by rung), `all_seeds` (scores of every seed trained with this recipe),
        `licence`.

    Raises:
        ValueError: If the preset has no weights; the message lists those that have.

    Example:
        >>> card("shapes3d_32")["data"]
        'shapes3d 32x32 procedural'
    """
    if name not in names():
        raise ValueError(f"There are no weights for this preset. Known: {', '.join(names())}. Received: {name!r}.")
    return json.loads((FOLDER / f"{name}.json").read_text())


def load(model: keras.Model, name: str) -> None:
    """Loads the weights, the stage and the names of the latents of a preset into a model of its architecture.

    Args:
        model: A model of the class that the card names.
        name: One of `names()`.

    Raises:
        ValueError: If the preset has no weights, or they are for another class or architecture.
    """
    about = card(name)
    if type(model).__name__ != about["class"]:
        raise ValueError(f"The weights of {name!r} are for a {about['class']}. Received: a {type(model).__name__}.")
    trained, own = about["config"], json.loads(json.dumps(model.get_config()))
    different = [key for key in (*model.spec._fields, "likelihood") if own[key] != trained[key]]
    if different:
        both = ", ".join(f"{key}={own[key]} (the weights: {trained[key]})" for key in different)
        raise ValueError(f"The weights of {name!r} are for another architecture. Received: {both}.")
    model.load_weights(FOLDER / f"{name}.weights.h5")
    model.latent_names = about["latent_names"]


def save(model: keras.Model, name: str, about: Mapping[str, Any], folder: str | os.PathLike = FOLDER) -> None:
    """Writes the weights of a trained model in float16, and its card.

    Args:
        model: A `LadderVAE`; it is not changed.
        name: Name of the preset.
        about: What the card says, without the class, the config and the names of the latents, which are the model's.
        folder: Where the two files go.
    """
    import h5py

    folder = Path(folder)
    plain = type(model).from_config(model.get_config())  # without an optimizer
    plain.set_weights(model.get_weights())
    described = {"class": type(model).__name__, "config": plain.get_config(), "latent_names": model.latent_names}
    with tempfile.TemporaryDirectory() as temporary:
        whole, half = (Path(temporary) / f"{dtype}.weights.h5" for dtype in ("float32", "float16"))
        plain.save_weights(whole)
        with h5py.File(whole) as source, h5py.File(half, "w") as target:
            _copy_in_half(source, target)
        shutil.copy(half, folder / f"{name}.weights.h5")
    (folder / f"{name}.json").write_text(json.dumps({**described, **about}, indent=1, allow_nan=False) + "\n")


def _copy_in_half(source, target):
    """Copies a group of a Keras weights file, with float16 for every float but the weights of the loss."""
    target.attrs.update(source.attrs)
    for key, value in source.items():
        if key == "loss_weights":
            source.copy(key, target)
        elif hasattr(value, "items"):
            _copy_in_half(value, target.create_group(key))
        else:
            values = value[()]
            target[key] = values.astype("float16") if np.issubdtype(values.dtype, np.floating) else values
            target[key].attrs.update(value.attrs)
