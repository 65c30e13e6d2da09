"""Images decoded from a model, and checks of the model and images that are given to a figure."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_provlae.checks import check_count
from keras_provlae.metrics.encoding import BATCH, encode_all, has_rungs


def check_model(model: Any) -> None:
    """Raises a `TypeError` unless the model has rungs."""
    if not has_rungs(model):
        raise TypeError(f"`model` must be a LadderVAE, such as ProgressiveVAE. Received: {type(model).__name__}.")


def check_sweep(steps: Any, span: Any) -> None:
    """Checks the number of values of a swept latent and their span."""
    check_count("steps", steps, least=2)
    if not span > 0:
        raise ValueError(f"`span` must be positive. Received: span={span}.")


def as_images(images: Any, name: str = "images", least: int = 1) -> np.ndarray:
    """Converts images to an array `(n, height, width, channels)` with n >= `least`; raises a `TypeError` otherwise."""
    if not hasattr(images, "shape") or len(images.shape) != 4 or images.shape[0] < least:
        received = f"shape {tuple(images.shape)}" if hasattr(images, "shape") else type(images).__name__
        raise TypeError(
            f"`{name}` must be an array (n, height, width, channels), n at least {least}. Received: {received}. "
            "Of a ground truth, pass `truth.sample(1000)[0]`; of a data set, `next(iter(ds))`."
        )
    return ops.convert_to_numpy(images)


def decode_all(model: keras.Model, codes: np.ndarray) -> np.ndarray:
    """Decodes codes in batches."""
    decode_batch = getattr(model, "decode_on_batch", model.decode)
    parts = [codes[start : start + BATCH] for start in range(0, len(codes), BATCH)]
    return np.concatenate([ops.convert_to_numpy(decode_batch(part)) for part in parts])


def locked_rungs(model: keras.Model) -> set[int]:
    """Rungs whose codes do not reach the image yet."""
    gates = ops.convert_to_numpy(model.decoder_gates())
    return {rung for (rung, _), gate in zip(model.rung_slices, gates, strict=True) if gate == 0}


def held_codes(model: keras.Model, around: Any) -> np.ndarray:
    """Codes to hold, `(1, latents)`: the posterior means of one image, or 0 without an image."""
    check_model(model)
    if around is None:
        return np.zeros((1, model.rung_slices[-1][1].stop), "float32")
    around = as_images(around, "around")
    if len(around) != 1:
        raise ValueError(f"`around` must be one image, (1, height, width, channels). Received: shape {around.shape}.")
    return encode_all(model, around)[0]


def rung_images(model: keras.Model, around: Any, n: int, seed: int | None) -> np.ndarray:
    """Draws images of every rung from its prior, the others held; equals `model.sample`, but decodes all at once.

    Returns:
        Float32 array `(rungs, n, height, width, channels)`, deepest rung first.
    """
    check_count("n", n)
    held = held_codes(model, around)
    drawn = ops.convert_to_numpy(keras.random.normal((n, held.shape[1]), dtype="float32", seed=seed))
    codes = np.tile(held, (model.num_rungs, n, 1))
    for index, (_, columns) in enumerate(model.rung_slices):
        codes[index][:, columns] = drawn[:, columns]
    images = decode_all(model, codes.reshape(-1, held.shape[1]))
    return images.reshape(model.num_rungs, n, *images.shape[1:])
