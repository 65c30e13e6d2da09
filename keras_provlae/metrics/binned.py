"""Scores on binned means: the mutual information of histograms, not of the posterior."""

import itertools
from typing import Any

import numpy as np

from keras_provlae.checks import check_count
from keras_provlae.metrics.mig import row_gaps
from keras_provlae.metrics.posteriors import check_factors, check_mean, check_varied, varied_latents

BINS = 20  # Locatello et al. (2019)
ROUNDING = 1e-12  # nats; what is below is no information


def histogram_information(mean: Any, factors: Any, bins: int = BINS) -> np.ndarray:
    """Mutual information between the binned mean of every latent and every factor.

    Args:
        mean: Float array `(rows, latents)`: means of the posteriors.
        factors: Integer array `(rows, factors)`.
        bins: Int >= 1. Bins of equal width over the range of each latent.

    Returns:
        Float64 array `(factors, latents)` in nats. Not comparable with `mutual_information`: it does not
        see the posterior's width, and a noisy latent with little range is cut as finely as any.

    Raises:
        TypeError, ValueError: If an array or a number is unfit.

    Source: Locatello et al. (2019), appendix C.
    """
    mean = check_mean(mean)
    factors = check_factors(factors, len(mean))
    check_count("bins", bins)
    codes = _binned(mean, bins)
    pairs = itertools.product(factors.labels.T, codes.T)
    return np.array([_discrete(a, b) for a, b in pairs]).reshape(len(factors.sizes), codes.shape[1])


def histogram_mig(mean: Any, factors: Any, bins: int = BINS) -> float:
    """MIG over the mutual information of histograms, as disentanglement_lib computes it.

    Not comparable with `mig`, which the paper reports: see `histogram_information`.

    Args:
        mean: Float array `(rows, latents)`: means of the posteriors.
        factors: Integer array `(rows, factors)`. Factors with one value are left out, with a warning.
        bins: Int >= 1. Bins of each latent.

    Returns:
        Float in [0, 1].

    Raises:
        TypeError, ValueError: If an array or a number is unfit, or no factor has two values.

    Source: Locatello et al. (2019), appendix C; Chen et al. (2018), equation 6.
    """
    mean = check_mean(mean)
    factors = check_varied(factors, len(mean), "The histogram MIG")
    information, entropies = histogram_information(mean, factors, bins), factors.entropies()
    return float((row_gaps(information) / entropies).mean())


def modularity(mean: Any, factors: Any, bins: int = BINS) -> float:
    """Modularity: whether each latent has mutual information with one factor only.

    Args:
        mean: Float array `(rows, latents)`: means of the posteriors.
        factors: Integer array `(rows, factors)`, at least two with more than one value; others are
            left out, with a warning.
        bins: Int >= 1. Bins of each latent.

    Returns:
        Float in [0, 1]: the mean over latents of 1 - (sum_k I_k^2 - max_k I_k^2) / (max_k I_k^2 (F - 1)). A
        latent without any information counts 0.

    Raises:
        TypeError, ValueError: If an array or a number is unfit, or there is one factor only.

    Source: Ridgeway and Mozer (2018), section 3.
    """
    mean = check_mean(mean)
    factors = check_varied(factors, len(mean), "Modularity", least=2)
    squared = np.square(histogram_information(mean, factors, bins))
    largest = squared.max(axis=0)
    informed = largest > 0
    others = squared.sum(axis=0) - largest
    scores = np.where(informed, 1 - others / np.where(informed, largest * (len(squared) - 1), 1.0), 0.0)
    return float(scores.mean())


def latent_information(mean: Any, bins: int = BINS) -> float:
    """Mutual information between two latents, binned, averaged over all pairs; needs no factors.

    Args:
        mean: Float array `(rows, latents)`: means of the posteriors.
        bins: Int >= 1. Bins of each latent.

    Returns:
        Float >= 0 in nats; 0 for independent latents, or for a single one.

    Raises:
        TypeError, ValueError: If an array or a number is unfit.

    Source: Locatello et al. (2019), section 5.2 (their "MI score").
    """
    mean = check_mean(mean)
    check_count("bins", bins)
    pairs = list(itertools.combinations(_binned(mean, bins).T, 2))
    return float(np.mean([_discrete(a, b) for a, b in pairs])) if pairs else 0.0


def _binned(mean, bins):
    """Bin numbers 0 .. bins - 1 of every entry, the last bin closed; 0 where rounding leaves no room for bins."""
    varied = varied_latents(mean)
    mean = mean.astype("float64")
    varied &= varied_latents(mean, steps=2 * bins)
    codes = np.zeros(mean.shape, "int64")
    for latent in np.flatnonzero(varied):
        codes[:, latent] = np.digitize(mean[:, latent], np.histogram_bin_edges(mean[:, latent], bins)[:-1]) - 1
    return codes


def _discrete(a, b):
    """Mutual information of two integer arrays, in nats."""
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1.0)
    joint /= len(a)
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    seen = joint > 0
    information = float((joint[seen] * np.log(joint[seen] / expected[seen])).sum())
    return information if information > ROUNDING else 0.0
