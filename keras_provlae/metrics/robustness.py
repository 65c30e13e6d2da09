"""IRS: how stable a latent is while all factors but one change."""

import warnings
from typing import Any

import numpy as np

from keras_provlae.checks import check_number
from keras_provlae.metrics.posteriors import check_mean, check_varied, varied_latents

QUANTILE = 0.99  # Locatello et al. (2019)


def irs(mean: Any, factors: Any, quantile: float = QUANTILE) -> float:
    """Computes the interventional robustness score.

    For each latent and factor, takes the given quantile of |z - E[z | v]| over the rows with value v, averages it
    over the values, and divides it by the latent's largest |z - E[z]|. The score is 1 minus this ratio for
    each latent's best factor, averaged over the latents weighted by their largest deviation.

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        factors: Integer array `(rows, factors)`. Factors with a single value are dropped with a warning.
        quantile: Float in [0, 1]. Quantile of the deviations; the definition uses 1, the maximum.

    Returns:
        Float in [0, 1]. Latents with a single value are left out; 0, with a warning, if no latent is left.

    Raises:
        TypeError, ValueError: If an array or a number is invalid.

    Source: Suter et al. (2019), section 4; 99 % quantile of Locatello et al. (2019).
    """
    mean = check_mean(mean)
    factors = check_varied(factors, len(mean), "The IRS")
    check_number("quantile", quantile, 0, 1)
    mean = mean[:, varied_latents(mean)].astype("float64")
    if mean.shape[1] == 0:
        warnings.warn("Every latent has one value in all rows: the IRS is 0.", stacklevel=2)
        return 0.0
    largest = np.abs(mean - mean.mean(axis=0)).max(axis=0)
    deviations = np.stack(
        [_deviation(mean, labels, size, quantile) for labels, size in zip(factors.labels.T, factors.sizes, strict=True)]
    )
    return float(np.average((1 - deviations / largest).max(axis=0), weights=largest))


def _deviation(mean, labels, size, quantile):
    """Quantile of |z - E[z | v]| averaged over the values v: `(latents,)`."""
    order = np.argsort(labels, kind="stable")
    groups = np.split(mean[order], np.cumsum(np.bincount(labels, minlength=size))[:-1])
    return np.mean([np.quantile(np.abs(group - group.mean(axis=0)), quantile, axis=0) for group in groups], axis=0)
