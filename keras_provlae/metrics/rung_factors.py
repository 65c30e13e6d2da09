"""Which rung holds which factor, and how stable this is across seeds."""

import itertools
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_provlae.checks import check_count, check_seed
from keras_provlae.metrics.aggregate import marginal_entropies
from keras_provlae.metrics.flow import Draws, check_slices
from keras_provlae.metrics.kernel import log_aggregate_density
from keras_provlae.metrics.posteriors import check_factors, check_names, check_posterior, factor_name
from keras_provlae.thresholds import HELD_SHARE


@dataclass(frozen=True, eq=False)
class RungFactorMap:
    """I(z_l; v_k) of each factor and all latents of each rung together, in nats.

    Attributes:
        rungs: Rungs in the order of the rows, deepest first.
        mi: Float64 `(rungs, factors)`. I(z_l; v_k).
        standard_error: Float64 `(rungs, factors)`; 0 for a rung with one latent.
        factor_entropy: Float64 `(factors,)`. Empirical H(v_k).
        factor_names: Names of the factors.
        rows: Number of rows.
        draws: Draws of (x, z) that the sampled values average over.
    """

    rungs: tuple[int, ...]
    mi: np.ndarray
    standard_error: np.ndarray
    factor_entropy: np.ndarray
    factor_names: tuple[str, ...]
    rows: int
    draws: int

    @property
    def normalized(self) -> np.ndarray:
        """I(z_l; v_k) / H(v_k), clamped to [0, 1]: float64 `(rungs, factors)`; nan for a factor with one value."""
        entropies = np.where(self.factor_entropy > 0, self.factor_entropy, np.nan)
        return np.clip(self.mi / entropies, 0.0, 1.0)

    @property
    def holders(self) -> dict[str, int | None]:
        """Rung with the most information about each factor; `None` if no rung has a tenth of its entropy."""
        best = np.nan_to_num(self.normalized)
        return {
            name: self.rungs[int(column.argmax())] if column.max() >= HELD_SHARE else None
            for name, column in zip(self.factor_names, best.T, strict=True)
        }

    def __str__(self) -> str:
        width = max(8, *(len(name) + 2 for name in self.factor_names))
        lines = [f"I(z_l; v_k) / H(v_k), {self.rows} rows, {self.draws} draws"]
        lines.append(" " * 8 + "".join(name.rjust(width) for name in self.factor_names))
        for rung, row in zip(self.rungs, self.normalized, strict=True):
            lines.append(f"rung {rung:<3}" + "".join(f"{value:{width}.3f}" for value in row))
        return "\n".join(lines)


class MapStability(NamedTuple):
    """Agreement between the maps of several runs."""

    score: float  # in [0, 1]; 1: all maps are equal, 0: no two overlap
    per_factor: np.ndarray  # float64 (factors,), the score per factor; nan if no rung holds information about it
    same_holder: float  # share of pairs of runs that agree on a factor's holder, over factors that either run holds


def rung_factor_map(
    mean: Any,
    log_var: Any,
    factors: Any,
    rung_slices: Sequence[tuple[int, slice]],
    draws: int = 10_000,
    seed: int | None = 0,
    factor_names: Sequence[str] | None = None,
    threads: int | None = None,
) -> RungFactorMap:
    """Computes the information of each rung, all its latents together, about each factor.

    I(z_l; v_k) is the mean over draws of (x, z) of log q(z_l | v_k) - log q(z_l), both densities summed
    exactly over the rows. A rung with one latent is integrated without sampling. Unlike the matrix of
    single latents, the map captures factors that are spread over the latents of one rung.

    Args:
        mean: Float array `(rows, latents)`, as returned by `model.encode`.
        log_var: Float array like `mean`: natural log of the variance.
        factors: Integer array `(rows, factors)`.
        rung_slices: `[(L, slice), ..., (1, slice)]`, as `model.rung_slices`.
        draws: Int >= 2. Draws of (x, z).
        seed: Int or `None`. Seed of the draws.
        factor_names: Names of the factors, or `None` for "factor 0" and so on.
        threads: Int or `None`. Number of threads; `None` uses all cores.

    Returns:
        A `RungFactorMap`. `print` shows it as a table, `visualization.rung_factor_heatmap` as a figure.

    Raises:
        TypeError, ValueError: If an array, a slice or a number is invalid.

    Example:
        >>> mean = np.array([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0], [9.0, 9.0]])
        >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> held = rung_factor_map(mean, np.full((4, 2), -4.0), factors, [(2, slice(0, 1)), (1, slice(1, 2))])
        >>> held.holders
        {'factor 0': 2, 'factor 1': 1}

    Source: quantifies section 4 of Li et al. (2020): deep rungs hold the abstract factors.
    """
    mean, log_var = check_posterior(mean, log_var)
    factors = check_factors(factors, len(mean))
    check_count("draws", draws, least=2)
    check_seed(seed)
    rungs, groups = check_slices(rung_slices, mean.shape[1])
    number = len(factors.sizes)
    factor_names = check_names(factor_names, number)
    mi, errors = np.zeros((len(groups), number)), np.zeros((len(groups), number))
    wide = [index for index, group in enumerate(groups) if group.stop - group.start > 1]
    if wide:
        mi[wide], errors[wide] = _sampled(mean, log_var, factors, [groups[i] for i in wide], draws, seed, threads)
    probabilities = [factors.probabilities(factor) for factor in range(number)]
    for index in set(range(len(groups))) - set(wide):
        column = groups[index].start
        entropies = marginal_entropies(mean[:, column], log_var[:, column], factors)
        mi[index] = entropies.marginal - entropies.mean_conditional(probabilities)
    names = tuple(factor_name(factor_names, factor) for factor in range(number))
    return RungFactorMap(rungs, mi, errors, factors.entropies(), names, len(mean), draws)


def map_stability(maps: Sequence[RungFactorMap]) -> MapStability:
    """Measures how consistently runs put the same factors into the same rungs.

    The overlap of two normalized maps is sum min(A, B) / sum max(A, B) over rungs and factors. The score is the
    mean over all pairs.

    Args:
        maps: At least two maps of the same factors and rungs, one per run.

    Returns:
        A `MapStability`.

    Raises:
        TypeError: If `maps` is not a list of maps.
        ValueError: If there are fewer than two maps, or they differ in rungs, factors, rows or draws.

    Source: the overlap is Ruzicka's similarity; applying it to maps is specific to this package.
    """
    maps = list(maps) if isinstance(maps, Iterable) else [maps]
    if not all(isinstance(one, RungFactorMap) for one in maps):
        raise TypeError(f"`maps` must be a list of RungFactorMap. Received: {[type(one).__name__ for one in maps]}.")
    if len(maps) < 2:
        raise ValueError(f"`maps` must have at least two maps. Received: {len(maps)}.")
    if len({(m.rungs, m.factor_names, m.rows, m.draws) for m in maps}) > 1:
        raise ValueError(
            "The maps must have the same rungs, factors, rows and draws. Received: "
            + "; ".join(f"rungs {m.rungs}, factors {m.factor_names}, {m.rows} rows, {m.draws} draws" for m in maps)
        )
    pairs = [np.nan_to_num(np.stack([a.normalized, b.normalized])) for a, b in itertools.combinations(maps, 2)]
    shared = np.array([pair.min(axis=0).sum(axis=0) for pair in pairs])  # (pairs, factors)
    union = np.array([pair.max(axis=0).sum(axis=0) for pair in pairs])
    if not union.any():
        warnings.warn("No rung of any map has information about a factor: the stability is undefined.", stacklevel=2)
        return MapStability(float("nan"), np.full(union.shape[1], np.nan), float("nan"))
    known = union > 0  # pairs without information about a factor do not count for it
    overlap = shared / np.where(known, union, 1.0)
    counted = known.sum(axis=0)
    per_factor = np.where(counted > 0, overlap.sum(axis=0) / np.maximum(counted, 1), np.nan)
    totals = union.sum(axis=1)
    score = (shared.sum(axis=1)[totals > 0] / totals[totals > 0]).mean()
    holders = itertools.combinations([list(m.holders.values()) for m in maps], 2)
    agree = [x == y for a, b in holders for x, y in zip(a, b, strict=True) if x is not None or y is not None]
    return MapStability(float(score), per_factor, float(np.mean(agree)) if agree else float("nan"))


def _sampled(mean, log_var, factors, groups, draws, seed, threads):
    """Samples I(z_l; v_k) of groups of several latents: returns it and its standard error, `(groups, factors)` each."""
    draw = Draws(mean, log_var, draws, seed)
    marginal = log_aggregate_density(draw.codes, mean, log_var, groups, threads=threads)
    gains = np.empty((len(factors.sizes), len(groups), draws))  # log q(z | v) - log q(z)
    for factor, size in enumerate(factors.sizes):
        drawn = factors.labels[draw.rows, factor]
        for value in range(size):
            selected = drawn == value
            if selected.any():
                rows = factors.labels[:, factor] == value
                conditional = log_aggregate_density(
                    draw.codes[selected], mean[rows], log_var[rows], groups, threads=threads
                )
                gains[factor][:, selected] = conditional - marginal[:, selected]
    return gains.mean(axis=2).T, gains.std(axis=2, ddof=1).T / np.sqrt(draws)
