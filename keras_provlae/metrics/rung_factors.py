"""Which rung holds which factor, and whether it does so again with another seed."""

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
    """I(z_l; v_k) of every rung, all its latents together, and every factor, in nats.

    Attributes:
        rungs: Rungs in the order of the rows, the deepest first.
        mi: Float64 `(rungs, factors)`. I(z_l; v_k).
        standard_error: Float64 `(rungs, factors)`; 0 for a rung of one latent.
        factor_entropy: Float64 `(factors,)`. H(v_k), empirical.
        factor_names: Names of the factors.
        rows: Number of rows.
        draws: Draws of (x, z) that the sampled values are means of.
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
        """The rung that knows most of each factor; `None` where none knows a tenth of it."""
        best = np.nan_to_num(self.normalized)
        return {
            name: self.rungs[int(column.argmax())] if column.max() >= HELD_SHARE else None
            for name, column in zip(self.factor_names, best.T, strict=True)
        }

    def __str__(self):
        width = max(8, *(len(name) + 2 for name in self.factor_names))
        lines = [f"I(z_l; v_k) / H(v_k), {self.rows} rows, {self.draws} draws"]
        lines.append(" " * 8 + "".join(name.rjust(width) for name in self.factor_names))
        for rung, row in zip(self.rungs, self.normalized, strict=True):
            lines.append(f"rung {rung:<3}" + "".join(f"{value:{width}.3f}" for value in row))
        return "\n".join(lines)


class MapStability(NamedTuple):
    """How much alike the maps of several trainings are."""

    score: float  # in [0, 1]; 1: all maps are the same, 0: no two share anything
    per_factor: np.ndarray  # float64 (factors,), the same for each factor; nan where no rung knows it
    same_holder: float  # share of pairs of trainings, over the factors that either holds, that agree on the holder


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
    """How many nats each rung, all its latents together, knows of each factor.

    I(z_l; v_k) is the mean over draws of (x, z) of log q(z_l | v_k) - log q(z_l), both densities
    summed exactly over the rows; a rung of one latent is integrated without sampling. Unlike the
    matrix of single latents, this sees factors that are spread over the latents of one rung.

    Args:
        mean: Float array `(rows, latents)`, as `model.encode` gives it.
        log_var: Float array like `mean`: natural log of the variance.
        factors: Integer array `(rows, factors)`.
        rung_slices: `[(L, slice), ..., (1, slice)]`, as `model.rung_slices`.
        draws: Int >= 2. Draws of (x, z).
        seed: Int or `None`. Seed of the draws.
        factor_names: Names of the factors, or `None` for "factor 0" and so on.
        threads: Int or `None`. Threads to use; `None` takes as many as there are cores.

    Returns:
        A `RungFactorMap`. `print` shows it as a table, `visualization.rung_factor_heatmap` as a figure.

    Raises:
        TypeError, ValueError: If an array, a slice or a number is unfit.

    Example:
        >>> mean = np.array([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0], [9.0, 9.0]])
        >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> held = rung_factor_map(mean, np.full((4, 2), -4.0), factors, [(2, slice(0, 1)), (1, slice(1, 2))])
        >>> held.holders
        {'factor 0': 2, 'factor 1': 1}

    Source: Li et al. (2020), section 4 (deep rungs hold what is abstract), made into a number.
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
    """Whether trainings with other seeds put the same factors into the same rungs.

    Two maps overlap by sum min(A, B) / sum max(A, B) over rungs and factors of the normalised maps; the score is
    the mean over all pairs.

    Args:
        maps: At least two maps of the same factors and rungs, one per training.

    Returns:
        A `MapStability`.

    Raises:
        TypeError: If they are no maps.
        ValueError: If there are fewer than two, or they differ in rungs, factors, rows or draws.

    Source: the overlap is Ruzicka's similarity; its use here is this package's own.
    """
    maps = list(maps) if isinstance(maps, Iterable) else [maps]
    if not all(isinstance(one, RungFactorMap) for one in maps):
        raise TypeError(f"`maps` must be a list of RungFactorMap. Received: {[type(one).__name__ for one in maps]}.")
    if len(maps) < 2:
        raise ValueError(f"Stability compares at least two maps. Received: {len(maps)}.")
    if len({(m.rungs, m.factor_names, m.rows, m.draws) for m in maps}) > 1:
        raise ValueError(
            "The maps must be of the same rungs, factors, rows and draws. Received: "
            + "; ".join(f"rungs {m.rungs}, factors {m.factor_names}, {m.rows} rows, {m.draws} draws" for m in maps)
        )
    pairs = [np.nan_to_num(np.stack([a.normalized, b.normalized])) for a, b in itertools.combinations(maps, 2)]
    shared = np.array([pair.min(axis=0).sum(axis=0) for pair in pairs])  # (pairs, factors)
    union = np.array([pair.max(axis=0).sum(axis=0) for pair in pairs])
    if not union.any():
        warnings.warn("No rung of any map knows anything of a factor: their stability is undefined.", stacklevel=2)
        return MapStability(float("nan"), np.full(union.shape[1], np.nan), float("nan"))
    known = union > 0  # pairs that know nothing of a factor say nothing of its stability
    overlap = shared / np.where(known, union, 1.0)
    knowing = known.sum(axis=0)
    per_factor = np.where(knowing > 0, overlap.sum(axis=0) / np.maximum(knowing, 1), np.nan)
    totals = union.sum(axis=1)
    score = (shared.sum(axis=1)[totals > 0] / totals[totals > 0]).mean()
    holders = itertools.combinations([list(m.holders.values()) for m in maps], 2)
    agree = [x == y for a, b in holders for x, y in zip(a, b, strict=True) if x is not None or y is not None]
    return MapStability(float(score), per_factor, float(np.mean(agree)) if agree else float("nan"))


def _sampled(mean, log_var, factors, groups, draws, seed, threads):
    """I and its standard error of groups of several latents: twice `(groups, factors)`."""
    draw = Draws(mean, log_var, draws, seed)
    marginal = log_aggregate_density(draw.codes, mean, log_var, groups, threads=threads)
    gains = np.empty((len(factors.sizes), len(groups), draws))  # log q(z | v) - log q(z)
    for factor, size in enumerate(factors.sizes):
        drawn = factors.labels[draw.rows, factor]
        for value in range(size):
            here = drawn == value
            if here.any():
                rows = factors.labels[:, factor] == value
                conditional = log_aggregate_density(
                    draw.codes[here], mean[rows], log_var[rows], groups, threads=threads
                )
                gains[factor][:, here] = conditional - marginal[:, here]
    return gains.mean(axis=2).T, gains.std(axis=2, ddof=1).T / np.sqrt(draws)
