"""Images of a traversal, one row per latent, with the names and notes beside them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_provlae.metrics.encoding import encode_all
from keras_provlae.visualization.latent_information import as_information, held_factors, latent_use, names_of_factors
from keras_provlae.visualization.model_images import as_images, check_sweep, decode_all, held_codes, locked_rungs
from keras_provlae.visualization.style import latent_labels, shorten, star

ORDERS = ("rung", "kl", "factor")
NOTE_WIDTH = 1.7  # inches for the name of a factor


class Sweep(NamedTuple):
    """Images of every latent at every value, and the labels of the latents."""

    images: np.ndarray  # (latents, steps, height, width, channels)
    order: list[tuple[int, int]]  # (rung, latent), in the order of the rows
    names: list[str]  # by latent
    notes: list[str]  # by latent
    ends: tuple[str, str]  # labels of the first and the last value
    locked: set[int]  # rungs

    @property
    def starred(self) -> bool:
        """Returns whether a latent is marked as not active."""
        return any(name.endswith("*") for name in self.names)

    def rung_name(self, rung: int) -> str:
        """Label of a rung."""
        return f"rung {rung}" + ("\n(locked)" if rung in self.locked else "")


def make_sweep(
    model: keras.Model,
    around: Any,
    steps: int,
    span: float,
    images: Any,
    quantiles: tuple[float, float] | None,
    order: str = "rung",
    information: Any = None,
) -> Sweep:
    """Decodes every latent at every value; the arguments are those of `traversals`."""
    check_sweep(steps, span)
    if order not in ORDERS:
        raise ValueError(f"`order` must be one of {', '.join(ORDERS)}. Received: {order!r}.")
    if images is None and (quantiles is not None or order == "kl"):
        raise ValueError("`quantiles` and `order='kl'` need images of the data. Received: images=None.")
    if information is None and order == "factor":
        raise ValueError(
            "`order='factor'` needs the result of `metrics.mutual_information`. Received: information=None."
        )
    held = held_codes(model, around)
    latents = held.shape[1]
    use = None if images is None else latent_use(*encode_all(model, as_images(images, least=2)))
    information = _information(information, latents)
    values, ends = _values(latents, steps, span, quantiles, use)
    codes = np.repeat(held, latents * steps, axis=0).reshape(latents, steps, latents)
    codes[np.arange(latents), :, np.arange(latents)] = values
    decoded = decode_all(model, codes.reshape(-1, latents))
    names, _ = latent_labels(model.rung_slices, latents, getattr(model, "latent_names", None))
    active = information.active if information is not None else np.ones(latents, bool) if use is None else use.active
    return Sweep(
        decoded.reshape(latents, steps, *decoded.shape[1:]),
        _order(model, order, use, information),
        star(names, active),
        _notes(latents, use, information),
        ends,
        locked_rungs(model),
    )


def _information(given, latents):
    """Returns the mutual information, after a check of its number of latents."""
    if given is None:
        return None
    information, _ = as_information(given)
    if len(information.active) != latents:
        raise ValueError(
            f"`information` must be of this model, with {latents} latents. Received: {len(information.active)}."
        )
    return information


def _values(latents, steps, span, quantiles, use):
    """Values of each latent, `(latents, steps)`, and the labels of the first and the last."""
    if quantiles is None:
        return np.tile(np.linspace(-span, span, steps), (latents, 1)), (f"{-span:.3g} sd", f"{span:.3g} sd")
    if not isinstance(quantiles, Sequence) or len(quantiles) != 2 or not 0 <= quantiles[0] < quantiles[1] <= 1:
        raise ValueError(f"`quantiles` must be (low, high), 0 <= low < high <= 1. Received: quantiles={quantiles}.")
    low, high = quantiles
    ends = np.quantile(use.mean, [low, high], axis=0)
    return np.linspace(*ends, steps, axis=1), (f"{100 * low:.3g}%", f"{100 * high:.3g}%")


def _order(model, order, use, information):
    rows = [(rung, column) for rung, columns in model.rung_slices for column in range(columns.start, columns.stop)]
    if order == "kl":
        return sorted(rows, key=lambda row: (-row[0], -use.kl[row[1]]))
    if order == "factor":
        held = held_factors(information)
        factors = len(information.mi)
        return sorted(rows, key=lambda row: (-row[0], factors if held[row[1]][0] is None else held[row[1]][0]))
    return rows


def _notes(latents, use, information):
    """Text beside the row of each latent: its KL, and the factor that it holds."""
    parts = [[] for _ in range(latents)]
    if use is not None:
        for part, kl in zip(parts, use.kl, strict=True):
            part.append(f"KL {kl:.2f}")
    if information is not None:
        names = names_of_factors(information)
        for part, (factor, share) in zip(parts, held_factors(information), strict=True):
            part += [] if factor is None else [f"{shorten(names[factor], NOTE_WIDTH, 8)} {share:.2f}"]
    return ["  ".join(part) for part in parts]
