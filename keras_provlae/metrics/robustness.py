"""IRS: whether a latent stays where it is while all factors but one change."""

import warnings
from typing import Any

import numpy as np

from keras_provlae.checks import check_number
from keras_provlae.metrics.posteriors import check_mean, check_varied, varied_latents

QUANTILE = 0.99  # Locatello et al. (2019)


def irs(mean: Any, factors: Any, quantile: float = QUANTILE) -> float:
    """Interventional robustness score.

    For each latent and factor: how far, at the given quantile, the latent strays from its mean among rows with
    the same value of the factor, averaged over its values and divided by how far it strays at most
    from its mean over all rows. 1 less that, the best factor of each latent, averaged over
    the latents in proportion to how far they stray.

    Args:
        mean: Float array `(rows, latents)`: means of the posteriors.
        factors: Integer array `(rows, factors)`. Factors with one value are left out, with a warning.
        quantile: Float in [0, 1]. Of the deviations; 1 is the maximum of the definition.

    Returns:
        Float in [0, 1]. Latents with one value are left out; 0, with a warning, if none is left.

    Raises:
        TypeError, ValueError: If an array or a number is unfit.

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
    strays = np.stack(
        [_stray(mean, labels, size, quantile) for labels, size in zip(factors.labels.T, factors.sizes, strict=True)]
    )
    return float(np.average((1 - strays / largest).max(axis=0), weights=largest))


def _stray(mean, labels, size, quantile):
    """The quantile of |z - E[z | v]| for each value, averaged over the values: `(latents,)`."""
    order = np.argsort(labels, kind="stable")
    groups = np.split(mean[order], np.cumsum(np.bincount(labels, minlength=size))[:-1])
    return np.mean([np.quantile(np.abs(group - group.mean(axis=0)), quantile, axis=0) for group in groups], axis=0)
