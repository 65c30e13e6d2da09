"""The published sampling estimator of I(z_j; v_k), for comparison with published numbers."""

import numpy as np

from keras_provlae.metrics.kernel import log_aggregate_density
from keras_provlae.metrics.posteriors import Factors


def sampled_information(
    mean: np.ndarray, log_var: np.ndarray, factors: Factors, draws: int, seed: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates entropies from one draw of z per row, each over at most `draws` random rows.

    Args:
        mean: Float array `(rows, latents)`.
        log_var: Float array like `mean`: natural log of the variance.
        factors: Factors of the rows.
        draws: Int >= 1. Maximum rows to average over for H(z) and each H(z | v).
        seed: Int or `None`.

    Returns:
        `(H(z_j), sum_v p(v) H(z_j | v_k = v), standard error of their difference)`: float64
        `(latents,)`, `(factors, latents)` and `(factors, latents)` in nats.

    Source: Chen et al. (2018), section 4; the authors' released program.
    """
    rng = np.random.default_rng(seed)
    codes = mean + np.exp(0.5 * log_var.astype("float64")) * rng.standard_normal(mean.shape)
    everything = np.arange(len(mean))
    marginal, deviation = _entropy(codes, mean, log_var, everything, draws, rng)
    shape = (len(factors.sizes), mean.shape[1])
    conditional, variance = np.zeros(shape), np.zeros(shape)
    for factor, probabilities in enumerate(map(factors.probabilities, range(len(factors.sizes)))):
        # a row may enter both entropies, so the variance is that of its contribution to the difference
        difference = deviation.copy()
        for value, probability in enumerate(probabilities):
            rows = np.flatnonzero(factors.labels[:, factor] == value)
            entropy, part = _entropy(codes, mean, log_var, rows, draws, rng)
            conditional[factor] += probability * entropy
            difference -= probability * part
        variance[factor] = np.square(difference).sum(axis=0)
    return marginal, conditional, np.sqrt(variance)


def _entropy(codes, mean, log_var, rows, draws, rng):
    """Entropy of each latent over some rows, `(latents,)`, and each row's deviation from it, `(rows, latents)`."""
    chosen = rng.permutation(rows)[:draws]
    latents = [slice(latent, latent + 1) for latent in range(mean.shape[1])]
    surprise = -log_aggregate_density(codes[chosen], mean[rows], log_var[rows], latents).T
    deviation = np.zeros(mean.shape)
    deviation[chosen] = (surprise - surprise.mean(axis=0)) / len(chosen)
    return surprise.mean(axis=0), deviation
