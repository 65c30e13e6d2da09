"""Scores on binned means: mutual information of histograms instead of posteriors."""

import itertools
from typing import Any

import numpy as np

from keras_provlae.checks import check_count
from keras_provlae.metrics.mig import row_gaps
from keras_provlae.metrics.posteriors import check_factors, check_mean, check_varied, varied_latents

BINS = 20  # Locatello et al. (2019)
ROUNDING = 1e-12  # nats; smaller values count as 0


def histogram_information(mean: Any, factors: Any, bins: int = BINS) -> np.ndarray:
    """Computes the mutual information between each latent's binned mean and each factor.

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        factors: Integer array `(rows, factors)`.
        bins: Int >= 1. Number of equal-width bins over each latent's range.

    Returns:
        Float64 array `(factors, latents)` in nats. Do not compare it with `mutual_information`: binning
        ignores the posterior's width and splits a noisy latent with a small range as finely as any other.

    Raises:
        TypeError, ValueError: If an array or a number is invalid.

    Source: Locatello et al. (2019), appendix C.
    """
    mean = check_mean(mean)
    factors = check_factors(factors, len(mean))
    check_count("bins", bins)
    codes = _binned(mean, bins)
    pairs = itertools.product(factors.labels.T, codes.T)
    return np.array([_discrete(a, b) for a, b in pairs]).reshape(len(factors.sizes), codes.shape[1])


def histogram_mig(mean: Any, factors: Any, bins: int = BINS) -> float:
    """Computes MIG from histograms, as disentanglement_lib does.

    Do not compare it with `mig`, which the paper reports: see `histogram_information`.

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        factors: Integer array `(rows, factors)`. Factors with a single value are dropped with a warning.
        bins: Int >= 1. Number of bins per latent.

    Returns:
        Float in [0, 1].

    Raises:
        TypeError, ValueError: If an array or a number is invalid, or no factor has two values.

    Source: Locatello et al. (2019), appendix C; Chen et al. (2018), equation 6.
    """
    mean = check_mean(mean)
    factors = check_varied(factors, len(mean), "The histogram MIG")
    information, entropies = histogram_information(mean, factors, bins), factors.entropies()
    return float((row_gaps(information) / entropies).mean())


def modularity(mean: Any, factors: Any, bins: int = BINS) -> float:
    """Computes modularity: how far each latent has mutual information with one factor only.

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        factors: Integer array `(rows, factors)`. At least two factors must vary; factors with a single value
            are dropped with a warning.
        bins: Int >= 1. Number of bins per latent.

    Returns:
        Float in [0, 1]: the mean over latents of 1 - (sum_k I_k^2 - max_k I_k^2) / (max_k I_k^2 (F - 1)). A
        latent without information scores 0.

    Raises:
        TypeError, ValueError: If an array or a number is invalid, or fewer than two factors vary.

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
    """Computes the mean mutual information between the binned means of two latents, over all pairs.

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        bins: Int >= 1. Number of bins per latent.

    Returns:
        Float >= 0 in nats; 0 for independent latents or a single latent.

    Raises:
        TypeError, ValueError: If an array or a number is invalid.

    Source: Locatello et al. (2019), section 5.2 (their "MI score").
    """
    mean = check_mean(mean)
    check_count("bins", bins)
    pairs = list(itertools.combinations(_binned(mean, bins).T, 2))
    return float(np.mean([_discrete(a, b) for a, b in pairs])) if pairs else 0.0


def _binned(mean, bins):
    """Bin index of every entry, 0 .. bins - 1, the last bin closed; 0 if the range is too narrow to bin."""
    varied = varied_latents(mean)
    mean = mean.astype("float64")
    varied &= varied_latents(mean, steps=2 * bins)
    codes = np.zeros(mean.shape, "int64")
    for latent in np.flatnonzero(varied):
        codes[:, latent] = np.digitize(mean[:, latent], np.histogram_bin_edges(mean[:, latent], bins)[:-1]) - 1
    return codes


def _discrete(a, b):
    """Mutual information of two integer arrays in nats."""
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1.0)
    joint /= len(a)
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    seen = joint > 0
    information = float((joint[seen] * np.log(joint[seen] / expected[seen])).sum())
    return information if information > ROUNDING else 0.0
