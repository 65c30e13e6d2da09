"""Mutual information I(z_j; v_k) between each latent and each factor."""

import math
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_provlae.checks import check_count, check_seed
from keras_provlae.metrics.aggregate import marginal_entropies
from keras_provlae.metrics.posteriors import (
    Factors,
    available_cores,
    check_factors,
    check_mean,
    check_names,
    check_posterior,
    check_weights,
    factor_name,
)
from keras_provlae.metrics.sampled import sampled_information
from keras_provlae.thresholds import ACTIVE_VARIANCE

LATENTS_AT_ONCE = 4  # each takes about 100 MB of grids, or 500 MB if sigmas span a factor of 1e4


@dataclass(frozen=True, eq=False)
class MutualInformation:
    """I(z_j; v_k) of each latent and factor in nats, and how it was computed.

    Attributes:
        mi: Float64 `(factors, latents)`. I(z_j; v_k); rounding may make it -1e-16.
        factor_entropy: Float64 `(factors,)`. H(v_k), empirical.
        latent_entropy: Float64 `(latents,)`. H(z_j) of the aggregate posterior.
        standard_error: Float64 `(factors, latents)`. Standard error of `mi`; 0 for quadrature. Sampling treats
            the rows as a random choice, so the error is too large if all rows are used.
        active: Bool `(latents,)`. True where the variance of the means is above 1e-2.
        method: `"quadrature"` or `"sample"`.
        rows: Number of rows.
        factor_names: Names of the factors, or `None`.
    """

    mi: np.ndarray
    factor_entropy: np.ndarray
    latent_entropy: np.ndarray
    standard_error: np.ndarray
    active: np.ndarray
    method: str
    rows: int
    factor_names: tuple[str, ...] | None = None

    @property
    def normalized(self) -> np.ndarray:
        """I(z_j; v_k) / H(v_k), clamped at 0: float64 `(factors, latents)`; nan for a factor with one value."""
        entropies = np.where(self.factor_entropy > 0, self.factor_entropy, np.nan)
        return np.maximum(self.mi, 0.0) / entropies[:, None]

    def __str__(self) -> str:
        names = [factor_name(self.factor_names, factor) for factor in range(len(self.mi))]
        width = max(len(name) for name in [*names, "active"])
        lines = [f"I(z; v) in nats by {self.method}, {self.rows} rows", " " * width + "   H(v)"]
        lines[1] += "".join(f"  z[{latent}]".rjust(8) for latent in range(self.mi.shape[1]))
        for name, entropy, row in zip(names, self.factor_entropy, self.mi, strict=True):
            lines.append(f"{name:<{width}}{entropy:7.3f}" + "".join(f"{abs(value):8.3f}" for value in row))
        lines.append(f"{'active':<{width}}       " + "".join(f"{'yes' if a else 'no':>8}" for a in self.active))
        return "\n".join(lines)


def mutual_information(
    mean: Any,
    log_var: Any,
    factors: Any,
    weights: Any = None,
    method: str = "quadrature",
    draws: int = 10_000,
    seed: int | None = 0,
    factor_names: Sequence[str] | None = None,
) -> MutualInformation:
    """Computes I(z_j; v_k) = H(z_j) - sum_v p(v) H(z_j | v_k = v) of the aggregate posterior.

    q(z_j) = mean_n N(mu_nj, sigma_nj^2) over all rows, and q(z_j | v_k = v) is the same over the rows with that
    value. Rows need not form a grid: p(v) and H(v) are empirical.

    Args:
        mean: Float array `(rows, latents)`, as returned by `model.encode`.
        log_var: Float array like `mean`: natural log of the variance.
        factors: Integer array `(rows, factors)`: the index of each factor's value. Accepts any integers
            and any subset of the factors; `(rows,)` for one factor.
        weights: Float array `(rows,)` or `None`. Weight of each row; `None` weights all rows equally.
        method: `"quadrature"` is deterministic and exact to 5e-5 nats. `"sample"` is the published estimator,
            for comparison with published numbers: one draw of z per row and at most `draws` rows per
            entropy. Its time grows with rows x draws.
        draws: Int >= 2. Maximum rows per entropy for `"sample"`.
        seed: Int or `None`. Seed for `"sample"`.
        factor_names: Names for the table and for messages, or `None`.

    Returns:
        A `MutualInformation`. `print` shows it as a table.

    Raises:
        TypeError: If `factors` are not integers, or codes are not real numbers.
        ValueError: If shapes differ, a code is not finite, or `method` is unknown.

    Example:
        >>> mean = np.array([[0.0], [0.0], [9.0], [9.0]])
        >>> log_var = np.full((4, 1), -4.0)
        >>> result = mutual_information(mean, log_var, factors=[[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> result.mi.round(4) + 0.0  # log 2 nats about the first factor, none about the second
        array([[0.6931],
               [0.    ]])

    Source: Chen et al. (2018), section 4; Li et al. (2020), section 3.4.
    """
    mean, log_var = check_posterior(mean, log_var)
    factors = check_factors(factors, len(mean))
    rows = len(mean)
    check_count("draws", draws, least=2)
    check_seed(seed)
    weights = check_weights(weights, len(mean))
    factor_names = check_names(factor_names, len(factors.sizes))
    _warn_of_constant(factors, weights, factor_names)
    if method == "quadrature":
        if weights is not None and not weights.all():
            kept = weights > 0  # rows of weight 0 must not widen the grid
            mean, log_var, weights = mean[kept], log_var[kept], weights[kept]
            factors = factors._replace(labels=factors.labels[kept])
        marginal, conditional = _by_quadrature(mean, log_var, factors, weights)
        mi, standard_error = marginal - conditional, np.zeros_like(conditional)
    elif method == "sample":
        if weights is not None:
            raise ValueError('`weights` need method="quadrature": the published estimator does not support them.')
        marginal, conditional, standard_error = sampled_information(mean, log_var, factors, draws, seed)
        mi = marginal - conditional
    else:
        raise ValueError(f'`method` must be "quadrature" or "sample". Received: method={method!r}.')
    return MutualInformation(
        mi=mi,
        factor_entropy=factors.entropies(weights),
        latent_entropy=marginal,
        standard_error=standard_error,
        active=active_latents(mean, weights),
        method=method,
        rows=rows,
        factor_names=factor_names,
    )


def active_latents(mean: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Finds latents whose means have an unbiased variance above 1e-2: bool `(latents,)`.

    Source: the authors' released program.
    """
    mean = check_mean(mean).astype("float64")
    centered = mean - np.average(mean, axis=0, weights=weights)
    variance = np.average(np.square(centered), axis=0, weights=weights)
    return variance * len(mean) / (len(mean) - 1) > ACTIVE_VARIANCE


def _by_quadrature(mean, log_var, factors, weights):
    """Computes H(z_j), `(latents,)`, and sum_v p(v) H(z_j | v), `(factors, latents)`."""
    with ThreadPoolExecutor(min(available_cores(), LATENTS_AT_ONCE)) as pool:
        results = list(
            pool.map(lambda j: marginal_entropies(mean[:, j], log_var[:, j], factors, weights), range(mean.shape[1]))
        )
    _warn_of_floor([result.floor for result in results])
    probabilities = [factors.probabilities(factor, weights) for factor in range(len(factors.sizes))]
    conditional = [result.mean_conditional(probabilities) for result in results]
    return np.array([result.marginal for result in results]), np.stack(conditional, axis=1)


def _warn_of_floor(floors):
    low = [(latent, floor) for latent, floor in enumerate(floors) if floor > 0]
    if low:
        warnings.warn(
            "Standard deviations below the floor of the grid are clipped to it: "
            + ", ".join(f"{floor:.2g} for latent {latent}" for latent, floor in low)
            + ". Smaller differences between means are not resolved.",
            stacklevel=4,
        )


def _warn_of_constant(factors: Factors, weights, names):
    probabilities = [factors.probabilities(factor, weights) for factor in range(len(factors.sizes))]
    constant = [factor_name(names, factor) for factor, p in enumerate(probabilities) if math.isclose(p.max(), 1.0)]
    if constant:
        warnings.warn(
            f"{', '.join(constant)} {'has' if len(constant) == 1 else 'have'} one value in all rows: the normalized "
            "information is nan, and MIG and MIG-sup leave it out.",
            stacklevel=3,
        )
