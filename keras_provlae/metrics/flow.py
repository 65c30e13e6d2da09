"""Information flow: I(x; z_l) of each rung, I(x; z) of all rungs, and their overlap I_over."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_provlae.checks import check_count, check_seed
from keras_provlae.metrics.aggregate import marginal_entropies
from keras_provlae.metrics.kernel import log_aggregate_density
from keras_provlae.metrics.posteriors import check_posterior

DRAWS_PER_CONTROL = 10  # with fewer draws, fitting the control variates biases the standard error down
CEILING_MARGIN = 1e-3  # nats; needed because the standard error goes to 0 at the ceiling


@dataclass(frozen=True, eq=False)
class RungInformation:
    """I(x; z_l) of each rung and I(x; z) of all rungs in nats, with standard errors.

    Attributes:
        rungs: Rungs in the order of the arrays, deepest first.
        mi: Float64 `(rungs,)`. I(x; z_l).
        standard_error: Float64 `(rungs,)`; 0 for a rung with one latent, which needs no sampling.
        total: Float. I(x; z) of all rungs together.
        total_standard_error: Float.
        i_over: Float. sum_l I(x; z_l) - I(x; z): information that several rungs share.
        i_over_standard_error: Float.
        ceiling: Float. ln N, the upper bound for codes of N images.
        rows: N, the number of images.
        draws: Draws of (x, z) that the sampled values average over.
    """

    rungs: tuple[int, ...]
    mi: np.ndarray
    standard_error: np.ndarray
    total: float
    total_standard_error: float
    i_over: float
    i_over_standard_error: float
    ceiling: float
    rows: int
    draws: int

    @property
    def at_ceiling(self) -> np.ndarray:
        """True where a rung is within two standard errors of ln N, the largest value it can show: bool `(rungs,)`."""
        return self.mi + 2 * self.standard_error + CEILING_MARGIN >= self.ceiling

    @property
    def total_at_ceiling(self) -> bool:
        """Returns whether the total is within two standard errors of ln N."""
        return bool(self.total + 2 * self.total_standard_error + CEILING_MARGIN >= self.ceiling)

    def __str__(self) -> str:
        note = "  at the ceiling: the codes separate all images, so the true value may be higher"
        lines = [f"I(x; z_l) in nats, {self.rows} rows, {self.draws} draws, ceiling ln N = {self.ceiling:.3f}"]
        values = zip(self.rungs, self.mi, self.standard_error, self.at_ceiling, strict=True)
        for rung, value, error, full in values:
            lines.append(f"rung {rung:<3}{value:9.3f} +- {error:.3f}{note if full else ''}")
        full = self.total_at_ceiling
        lines.append(f"total   {self.total:9.3f} +- {self.total_standard_error:.3f}{note if full else ''}")
        lines.append(f"I_over  {self.i_over:9.3f} +- {self.i_over_standard_error:.3f}")
        return "\n".join(lines)


def information_flow(
    mean: Any,
    log_var: Any,
    rung_slices: Sequence[tuple[int, slice]],
    draws: int = 10_000,
    seed: int | None = 0,
    threads: int | None = None,
) -> RungInformation:
    """Computes I(x; z_l) = H(z_l) - mean_x H(z_l | x) of each rung, and of all rungs together.

    At each draw of (x, z), the aggregate posterior's density is summed exactly over all rows. Control
    variates, functions of the draw with known means, remove most of the noise. A rung with one latent is
    integrated without sampling. Time grows with rows x draws x latents, memory with (rows + 5 draws) x latents.

    Args:
        mean: Float array `(rows, latents)`, as returned by `model.encode`.
        log_var: Float array like `mean`: natural log of the variance.
        rung_slices: `[(L, slice), ..., (1, slice)]`, as `model.rung_slices`. The total covers the
            latents of all these rungs.
        draws: Int >= 2. Draws of (x, z). Standard errors shrink with its square root.
        seed: Int or `None`. Seed of the draws.
        threads: Int or `None`. Number of threads; `None` uses all cores.

    Returns:
        A `RungInformation`. `print` shows it as a table.

    Raises:
        ValueError: If shapes differ, a code is not finite, `draws` is below 2, or a slice is empty or
            overlaps another.

    Example:
        >>> mean = np.repeat(np.eye(4) * 50, 25, axis=0)  # 100 images in 4 groups of the same code
        >>> flow = information_flow(mean, np.zeros((100, 4)), [(2, slice(0, 1)), (1, slice(1, 4))])
        >>> round(flow.total, 3), round(flow.ceiling, 3)  # log 4, and at most log 100
        (1.386, 4.605)

    Source: Li et al. (2020), section 4 (information flow) and tables 1 and 3 to 8.
    """
    mean, log_var = check_posterior(mean, log_var)
    check_count("draws", draws, least=2)
    check_seed(seed)
    rungs, groups = check_slices(rung_slices, mean.shape[1])
    sets = [np.arange(group.start, group.stop) for group in groups]
    if len(sets) > 1:
        sets.append(np.concatenate(sets))
    if max(map(len, sets)) > 1:
        draw = Draws(mean, log_var, draws, seed)
        surprises = -log_aggregate_density(draw.codes, mean, log_var, groups, len(groups) > 1, threads)
    mi, residuals = np.zeros(len(sets)), np.zeros((len(sets), draws))
    for index, columns in enumerate(sets):
        if len(columns) == 1:
            entropy = marginal_entropies(mean[:, columns[0]], log_var[:, columns[0]]).marginal
        else:
            entropy, residuals[index] = _regress(surprises[index], draw.controls(columns))
        mi[index] = entropy - _conditional_entropy(log_var[:, columns])
    rung_mi, total = mi[: len(groups)], mi[-1]
    errors = _standard_error(residuals)
    over = residuals[: len(groups)].sum(axis=0) - residuals[-1]  # same draws, so their noise partly cancels
    return RungInformation(
        rungs=rungs,
        mi=rung_mi,
        standard_error=errors[: len(groups)],
        total=float(total),
        total_standard_error=float(errors[-1]),
        i_over=float(rung_mi.sum() - total),
        i_over_standard_error=float(_standard_error(over)),
        ceiling=math.log(len(mean)),
        rows=len(mean),
        draws=draws,
    )


class Draws:
    """Draws of (x, z): rows in random order, reused only after all are drawn, and z from their posteriors."""

    def __init__(self, mean: np.ndarray, log_var: np.ndarray, draws: int, seed: int | None):
        rng = np.random.default_rng(seed)
        rounds = [rng.permutation(len(mean)) for _ in range(-(-draws // len(mean)))]
        self.rows = np.concatenate(rounds)[:draws]
        self.noise = rng.standard_normal((draws, mean.shape[1]))
        self.mean, self.log_var = mean.astype("float64"), log_var.astype("float64")
        self.codes = self.mean[self.rows] + np.exp(0.5 * self.log_var[self.rows]) * self.noise

    def controls(self, columns: np.ndarray) -> np.ndarray:
        """Control variates: functions of each draw with mean 0 over all rows and noise, `(draws, controls)`."""
        mean, log_var = self.mean[:, columns], self.log_var[:, columns]
        codes, noise = self.codes[:, columns], self.noise[:, columns]
        second = (mean**2 + np.exp(log_var)).mean(axis=0)
        return np.concatenate(
            [
                noise,
                noise**2 - 1,
                log_var[self.rows] - log_var.mean(axis=0),
                codes - mean.mean(axis=0),
                codes**2 - second,
            ],
            axis=1,
        )


def _regress(values, controls):
    """Estimates the mean with the controls regressed out. Residuals have rms / sqrt(n) = standard error."""
    if len(values) < DRAWS_PER_CONTROL * controls.shape[1]:
        residuals = values - values.mean()
        return values.mean(), residuals * math.sqrt(len(values) / max(len(values) - 1, 1))
    scale = controls.std(axis=0)
    design = np.concatenate([np.ones((len(values), 1)), controls / np.where(scale > 0, scale, 1.0)], axis=1)
    coefficients, _, rank, _ = np.linalg.lstsq(design, values, rcond=1e-8)
    residuals = values - design @ coefficients
    return coefficients[0], residuals * math.sqrt(len(values) / (len(values) - rank))


def _standard_error(residuals):
    return np.sqrt(np.square(residuals).mean(axis=-1) / residuals.shape[-1])


def _conditional_entropy(log_var):
    """mean_x H(z | x) of diagonal Gaussians in nats."""
    return 0.5 * (log_var.astype("float64") + math.log(2 * math.pi) + 1).sum(axis=1).mean()


def check_slices(rung_slices: Sequence[tuple[int, slice]], latents: int) -> tuple[tuple[int, ...], list[slice]]:
    """Checks that the slices are non-empty and disjoint. Returns the rungs and their columns."""
    pairs = rung_slices.items() if hasattr(rung_slices, "items") else rung_slices
    pairs = list(pairs) if isinstance(pairs, Iterable) else []
    if (
        not pairs
        or not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs)
        or not all(isinstance(columns, slice) for _, columns in pairs)
    ):
        raise ValueError(
            "`rung_slices` must be [(L, slice), ..., (1, slice)], as `model.rung_slices`. "
            f"Received: rung_slices={rung_slices!r}."
        )
    columns = [range(latents)[columns] for _, columns in pairs]
    taken = [column for group in columns for column in group]
    whole = all(columns) and all(
        group.step == 1 and (pair[1].stop or latents) <= latents for group, pair in zip(columns, pairs, strict=True)
    )
    if not whole or len(set(taken)) < len(taken):
        raise ValueError(
            f"`rung_slices` must split {latents} latents into non-empty slices without overlap. "
            f"Received: rung_slices={rung_slices!r}."
        )
    return tuple(rung for rung, _ in pairs), [slice(group.start, group.stop) for group in columns]
