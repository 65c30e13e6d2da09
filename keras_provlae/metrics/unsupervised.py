"""Scores without factors: dependence between latents under a Gaussian fit to the means."""

from typing import Any

import numpy as np

from keras_provlae.metrics.posteriors import check_mean, varied_latents


def gaussian_total_correlation(mean: Any) -> float:
    """Computes the total correlation KL(p(z) || prod_j p(z_j)) of a Gaussian with the covariance of the means.

    Args:
        mean: Float array `(rows, latents)`: posterior means.

    Returns:
        Float >= 0 in nats, 0 for uncorrelated latents. Latents with a single value are left out. Linearly
        dependent latents make it infinite, or very large (15 or more) because of rounding.

    Raises:
        TypeError, ValueError: If the array is invalid.

    Example:
        >>> gaussian_total_correlation([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        0.0

    Source: Watanabe (1960); Locatello et al. (2019), section 5.2.
    """
    covariance = _covariance(mean)
    if len(covariance) < 2:
        return 0.0
    _, log_determinant = np.linalg.slogdet(covariance)
    return max(float(0.5 * (np.log(np.diag(covariance)).sum() - log_determinant)), 0.0)


def wasserstein_correlation(mean: Any, normalized: bool = False) -> float:
    """Computes the squared Wasserstein-2 distance between a Gaussian fit to the means and its marginals' product.

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        normalized: Bool. Divide by the sum of the variances.

    Returns:
        Float >= 0, 0 for uncorrelated latents; in squared units of the latents unless normalized.

    Raises:
        TypeError, ValueError: If the array is invalid.

    Source: Locatello et al. (2019), section 5.2.
    """
    covariance = _covariance(mean)
    if len(covariance) < 2:
        return 0.0
    root = np.sqrt(np.diag(covariance))
    eigenvalues = np.linalg.eigvalsh(root[:, None] * covariance * root)  # eigenvalues of diag(cov) cov
    trace = np.trace(covariance)
    distance = max(float(2 * trace - 2 * np.sqrt(np.maximum(eigenvalues, 0.0)).sum()), 0.0)
    return distance / float(trace) if normalized else distance


def _covariance(mean):
    mean = check_mean(mean)
    varied = varied_latents(mean)
    return np.atleast_2d(np.cov(mean[:, varied].T.astype("float64"))) if varied.any() else np.zeros((0, 0))
