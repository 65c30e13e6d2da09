"""Measurements behind a report, on a subset of the images."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_provlae import metrics
from keras_provlae.metrics.contexts import has_grid
from keras_provlae.metrics.encoding import encode_all, held_subset
from keras_provlae.metrics.posteriors import check_factors, check_names
from keras_provlae.visualization.latent_information import LatentUse, latent_use
from keras_provlae.visualization.model_images import locked_rungs

QUICK_SCORES = (  # without classifiers and optional packages
    "mutual_information", "information_flow", "rung_factor_map", "factor_vae_score", "unsupervised", "histograms",
    "irs",
)  # fmt: skip

PICTURED = 16


class Measurements(NamedTuple):
    """All measurements that a report shows or warns about."""

    images: np.ndarray  # the subset
    pictured: np.ndarray  # images to draw, at random: neighbors in a grid look alike
    factors: np.ndarray | None
    mean: np.ndarray
    log_var: np.ndarray
    flow: metrics.RungInformation
    use: LatentUse
    card: metrics.MetricCard | None
    locked: set[int]
    rung_slices: list[tuple[int, slice]]
    contexts: metrics.ContextEffects | None = None  # of data with an image for every combination of factors


def measure(
    model: keras.Model,
    data: Any,
    data_name: str,
    factor_names: Sequence[str] | None,
    card: metrics.MetricCard | None,
    num_images: int,
    draws: int,
    seed: int | None,
) -> Measurements:
    """Measures the model on a subset of the data; computes a quick metric card if none is given and factors are."""
    images, factors = held_subset(data, num_images, seed)
    _check_given(model, images, factors, factor_names, card)
    mean, log_var = encode_all(model, images)
    flow = None
    if card is None and factors is not None and vary(factors):
        about = {"model": f"{type(model).__name__} {model.name}"}
        how: dict[str, Any] = {"include": QUICK_SCORES, "seed": seed, "factor_names": factor_names, "data": data_name}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the page explains undefined scores itself
            card = metrics.evaluate_codes(mean, log_var, factors, model.rung_slices, about=about, **how)
        flow = result_of(card, "information_flow")
    if flow is None or flow.draws != draws:
        flow = metrics.information_flow(mean, log_var, model.rung_slices, draws, seed)
    return Measurements(
        images=images,
        pictured=images[np.random.default_rng(seed).permutation(len(images))[:PICTURED]],
        factors=factors,
        mean=mean,
        log_var=log_var,
        flow=flow,
        use=_use(mean, log_var, card),
        card=card,
        locked=locked_rungs(model),
        rung_slices=model.rung_slices,
        contexts=_contexts(model, data, card, num_images, seed),
    )


def vary(factors: np.ndarray) -> bool:
    """Returns whether some factor has two values, without which no score is defined."""
    return bool((factors != factors[:1]).any())


def result_of(card: metrics.MetricCard | None, name: str) -> Any:
    """Returns a result behind the scores of a card; `None` without a card or if it was read from a file."""
    return None if card is None else card.results.get(name)


def _contexts(model, data, card, num_images, seed):
    """The card's effects within contexts, or those of about as many images as the report measures."""
    known = result_of(card, "contexts")
    if known is not None or not has_grid(data) or max(data.factor_sizes) < 2:
        return known
    return metrics.context_effects(model, data, num_images, seed)


def _use(mean, log_var, card):
    """Computes the use of the latents; the card decides which are active, as it may be of more images."""
    use = latent_use(mean, log_var)
    information = result_of(card, "mutual_information")
    return use if information is None else use._replace(active=information.active)


def _check_given(model, images, factors, factor_names, card):
    """Checks, before anything is measured, the arguments that are used late in a report."""
    if factors is not None:
        check_names(factor_names, len(check_factors(factors, len(images)).sizes))
    information, held = result_of(card, "mutual_information"), result_of(card, "rung_factor_map")
    latents, rungs = model.rung_slices[-1][1].stop, [rung for rung, _ in model.rung_slices]
    if information is not None and len(information.active) != latents:
        raise ValueError(f"`card` must be of this model, with {latents} latents. Received: {len(information.active)}.")
    if held is not None and list(held.rungs) != rungs:
        raise ValueError(f"`card` must be of this model, with the rungs {rungs}. Received: {list(held.rungs)}.")
