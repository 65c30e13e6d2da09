"""Mutual information between every latent and every factor, I(z_j; v_k)."""

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

LATENTS_AT_ONCE = 4  # each holds some 100 MB of grids, and 500 MB where sigma goes down to 1e-4 of its largest


@dataclass(frozen=True, eq=False)
class MutualInformation:
    """I(z_j; v_k) of every latent and factor, in nats, and how it was computed.

    Attributes:
        mi: Float64 `(factors, latents)`. I(z_j; v_k); rounding may leave it at -1e-16.
        factor_entropy: Float64 `(factors,)`. H(v_k), empirical.
        latent_entropy: Float64 `(latents,)`. H(z_j) of the aggregate posterior.
        standard_error: Float64 `(factors, latents)`. Of `mi`; 0 for the quadrature. For samples it counts the
            choice of rows as chance, and is too large where all rows are used.
        active: Bool `(latents,)`. Whether the variance of the means is above 1e-2.
        method: `"quadrature"` or `"sample"`.
        rows: Number of rows.
        factor_names: Names of the factors or `None`.
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

    def __str__(self):
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
    """I(z_j; v_k) = H(z_j) - sum_v p(v) H(z_j | v_k = v) of the aggregate posterior, for all latents and factors.

    z_j is distributed as the posteriors of all rows together, q(z_j) = mean_n N(mu_nj, sigma_nj^2), and
    given v_k = v as those of the rows with that value. Rows need not form a grid: p(v) and H(v) are
    those of the rows that are given.

    Args:
        mean: Float array `(rows, latents)`, as `model.encode` gives it.
        log_var: Float array like `mean`: natural log of the variance.
        factors: Integer array `(rows, factors)`: the index of each factor's value. Any integers,
            any subset of the factors; `(rows,)` for one factor.
        weights: Float array `(rows,)` or `None`. Weight of each row; `None` weighs all the same.
        method: `"quadrature"`: deterministic, within 5e-5 nats. `"sample"`: the published estimator, one
            draw of z per row and at most `draws` rows for each entropy, for comparison with published
            numbers; its time grows with rows x draws.
        draws: Int >= 2. Draws of `"sample"`.
        seed: Int or `None`. Seed of `"sample"`.
        factor_names: Names to show and to use in messages, or `None`.

    Returns:
        A `MutualInformation`. `print` shows it as a table.

    Raises:
        TypeError: If `factors` are not integers, or codes no real numbers.
        ValueError: If shapes do not agree, a code is not finite, or `method` is unknown.

    Example:
        >>> mean = np.array([[0.0], [0.0], [9.0], [9.0]])
        >>> log_var = np.full((4, 1), -4.0)
        >>> result = mutual_information(mean, log_var, factors=[[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> result.mi.round(4) + 0.0  # the first of two factors, and log 2 nats of it
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
            kept = weights > 0  # what weighs nothing must not widen the grid
            mean, log_var, weights = mean[kept], log_var[kept], weights[kept]
            factors = factors._replace(labels=factors.labels[kept])
        marginal, conditional = _by_quadrature(mean, log_var, factors, weights)
        mi, standard_error = marginal - conditional, np.zeros_like(conditional)
    elif method == "sample":
        if weights is not None:
            raise ValueError('`weights` need method="quadrature": the published estimator has none.')
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
    """Whether the unbiased variance of each latent's means is above 1e-2: bool `(latents,)`.

    Source: the authors' released program.
    """
    mean = check_mean(mean).astype("float64")
    centered = mean - np.average(mean, axis=0, weights=weights)
    variance = np.average(np.square(centered), axis=0, weights=weights)
    return variance * len(mean) / (len(mean) - 1) > ACTIVE_VARIANCE


def _by_quadrature(mean, log_var, factors, weights):
    """H(z_j), `(latents,)`, and sum_v p(v) H(z_j | v), `(factors, latents)`."""
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
            "Standard deviations below the floor of the grid are taken as that floor: "
            + ", ".join(f"{floor:.2g} for latent {latent}" for latent, floor in low)
            + ". Differences of the means below it are not told apart.",
            stacklevel=4,
        )


def _warn_of_constant(factors: Factors, weights, names):
    probabilities = [factors.probabilities(factor, weights) for factor in range(len(factors.sizes))]
    constant = [factor_name(names, factor) for factor, p in enumerate(probabilities) if math.isclose(p.max(), 1.0)]
    if constant:
        warnings.warn(
            f"{', '.join(constant)} {'has' if len(constant) == 1 else 'have'} one value in all rows: nothing can hold "
            "it, its normalised information is nan, and MIG and MIG-sup leave it out.",
            stacklevel=3,
        )
