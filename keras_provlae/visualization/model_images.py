"""What data make of each latent: how many nats it takes, whether it is used at all, and where its means lie."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_provlae.checks import check_count
from keras_provlae.losses import gaussian_kl
from keras_provlae.metrics import MutualInformation, active_latents
from keras_provlae.metrics.encoding import BATCH, encode_all, has_rungs
from keras_provlae.metrics.posteriors import factor_name
from keras_provlae.thresholds import HELD_SHARE


def check_model(model: Any) -> None:
    """Raises a `TypeError` for what is no ladder model."""
    if not has_rungs(model):
        raise TypeError(f"`model` must be a LadderVAE, such as ProgressiveVAE. Received: {type(model).__name__}.")


def as_images(images: Any, name: str = "images", least: int = 1) -> np.ndarray:
    """Images as an array `(n, height, width, channels)`, at least so many; a clear error for anything else."""
    if not hasattr(images, "shape") or len(images.shape) != 4 or images.shape[0] < least:
        received = f"shape {tuple(images.shape)}" if hasattr(images, "shape") else type(images).__name__
        raise TypeError(
            f"`{name}` must be an array (n, height, width, channels), n at least {least}. Received: {received}. "
            "Of a ground truth take `truth.sample(1000)[0]`, of a data set `next(iter(ds))`."
        )
    return ops.convert_to_numpy(images)


class LatentUse(NamedTuple):
    """How some images use the latents of a model."""

    kl: np.ndarray  # float64 (latents,): KL to the prior in nats, mean over the images
    active: np.ndarray  # bool (latents,)
    mean: np.ndarray  # float32 (images, latents): means of the posteriors


def latent_use(mean: np.ndarray, log_var: np.ndarray) -> LatentUse:
    """How images with these posteriors use each latent."""
    kl = ops.convert_to_numpy(gaussian_kl(mean[..., None], log_var[..., None]))  # each latent by itself
    return LatentUse(kl.mean(axis=0, dtype="float64"), active_latents(mean), mean)


def result_in(given: Any, name: str, data: Any = None) -> tuple[Any, Any]:
    """The result in a metric card and the name of its data; anything else, and another `data`, as it is."""
    if not hasattr(given, "results"):
        return given, data
    if name not in given.results:
        raise ValueError(f"This card has no {name}: it was left out, or the card was read from a file.")
    return given.results[name], given.about.get("data") if data is None else data


def as_information(given: Any, data: Any = None) -> tuple[MutualInformation, Any]:
    """The mutual information that was given, or that in a card, and the name of the data."""
    information, data = result_in(given, "mutual_information", data)
    if not hasattr(information, "latent_entropy"):
        raise TypeError(
            f"`information` must be what `metrics.mutual_information` returns. Received: {type(information).__name__}."
        )
    return information, data


def names_of_factors(information: MutualInformation) -> list[str]:
    """What to call each factor."""
    return [factor_name(information.factor_names, factor) for factor in range(len(information.mi))]


def held_factors(information: MutualInformation) -> list[tuple[int | None, float]]:
    """Of each latent the factor that it knows most of, and how much of its entropy: `(factor, share)`.

    The factor is `None` where the latent knows less than a tenth of each.
    """
    known = np.nan_to_num(information.normalized)
    best = known.argmax(axis=0)
    shares = known[best, np.arange(known.shape[1])]
    pairs = zip(best, shares, strict=True)
    return [(int(factor) if share >= HELD_SHARE else None, float(share)) for factor, share in pairs]


def decode_all(model: keras.Model, codes: np.ndarray) -> np.ndarray:
    """The images of many codes, in batches."""
    decode_batch = getattr(model, "decode_on_batch", model.decode)
    parts = [codes[start : start + BATCH] for start in range(0, len(codes), BATCH)]
    return np.concatenate([ops.convert_to_numpy(decode_batch(part)) for part in parts])


def locked_rungs(model: keras.Model) -> set[int]:
    """Rungs whose codes do not reach the image yet."""
    gates = ops.convert_to_numpy(model.decoder_gates())
    return {rung for (rung, _), gate in zip(model.rung_slices, gates, strict=True) if gate == 0}


def held_codes(model: keras.Model, around: Any) -> np.ndarray:
    """The codes that are held: the means of one image's posteriors, or 0 without one: `(1, latents)`."""
    check_model(model)
    if around is None:
        return np.zeros((1, model.rung_slices[-1][1].stop), "float32")
    around = as_images(around, "around")
    if len(around) != 1:
        raise ValueError(f"`around` must be one image, (1, height, width, channels). Received: shape {around.shape}.")
    return encode_all(model, around)[0]


def rung_images(model: keras.Model, around: Any, n: int, seed: int | None) -> np.ndarray:
    """Images of every rung drawn from its prior, the others held, as those of `model.sample`, decoded at once.

    Returns:
        Float32 array `(rungs, n, height, width, channels)`, the deepest rung first.
    """
    check_count("n", n)
    held = held_codes(model, around)
    drawn = ops.convert_to_numpy(keras.random.normal((n, held.shape[1]), dtype="float32", seed=seed))
    codes = np.tile(held, (model.num_rungs, n, 1))
    for index, (_, columns) in enumerate(model.rung_slices):
        codes[index][:, columns] = drawn[:, columns]
    images = decode_all(model, codes.reshape(-1, held.shape[1]))
    return images.reshape(model.num_rungs, n, *images.shape[1:])
