"""Information in each latent: its KL, whether it is active, and the factor that it holds."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_provlae.losses import gaussian_kl
from keras_provlae.metrics import MutualInformation, active_latents
from keras_provlae.metrics.posteriors import factor_name
from keras_provlae.thresholds import HELD_SHARE


class LatentUse(NamedTuple):
    """Use of the latents by some images."""

    kl: np.ndarray  # float64 (latents,): KL to the prior in nats, mean over the images
    active: np.ndarray  # bool (latents,)
    mean: np.ndarray  # float32 (images, latents): posterior means


def latent_use(mean: np.ndarray, log_var: np.ndarray) -> LatentUse:
    """Computes the use of each latent from the posteriors of some images."""
    kl = ops.convert_to_numpy(gaussian_kl(mean[..., None], log_var[..., None]))  # one latent at a time
    return LatentUse(kl.mean(axis=0, dtype="float64"), active_latents(mean), mean)


def result_in(given: Any, name: str, data: Any = None) -> tuple[Any, Any]:
    """Returns `(result, data)` from a metric card, with its data's name unless `data` is given; else the arguments."""
    if not hasattr(given, "results"):
        return given, data
    if name not in given.results:
        has = ", ".join(given.results) or "none"
        raise ValueError(f"The card must have the result {name}; cards read from a file have none. Received: {has}.")
    return given.results[name], given.about.get("data") if data is None else data


def as_information(given: Any, data: Any = None) -> tuple[MutualInformation, Any]:
    """Returns `(mutual information, name of the data)`, from the result itself or a metric card."""
    information, data = result_in(given, "mutual_information", data)
    if not hasattr(information, "latent_entropy"):
        raise TypeError(
            f"`information` must be the result of `metrics.mutual_information`. Received: {type(information).__name__}."
        )
    return information, data


def names_of_factors(information: MutualInformation) -> list[str]:
    """Name of each factor."""
    return [factor_name(information.factor_names, factor) for factor in range(len(information.mi))]


def held_factors(information: MutualInformation) -> list[tuple[int | None, float]]:
    """For each latent, the factor that it is most informative about and I(z; v) / H(v): `(factor, share)`.

    The factor is `None` if that share is below a tenth.
    """
    normalized = np.nan_to_num(information.normalized)
    best = normalized.argmax(axis=0)
    shares = normalized[best, np.arange(normalized.shape[1])]
    pairs = zip(best, shares, strict=True)
    return [(int(factor) if share >= HELD_SHARE else None, float(share)) for factor, share in pairs]
