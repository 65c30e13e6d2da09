"""Exact log q(z) of an aggregate posterior over several latents: every draw against every row."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_provlae.checks import check_count
from keras_provlae.metrics.posteriors import available_cores

DRAWS_AT_ONCE = 32  # more if there are few rows
ROWS_AT_ONCE = 4096  # with 32 draws, half a megabyte in float32, which fits the cache


def log_aggregate_density(
    codes: np.ndarray,
    mean: np.ndarray,
    log_var: np.ndarray,
    groups: Sequence[slice],
    total: bool = False,
    threads: int | None = None,
) -> np.ndarray:
    """Computes log (1/N) sum_n N(z; mu_n, sigma_n^2) at each draw, for several groups of latents in one pass.

    Args:
        codes: Float array `(draws, latents)`: the points z.
        mean: Float array `(rows, latents)`.
        log_var: Float array like `mean`: natural log of the variance.
        groups: Slices of columns; each group gets a joint density.
        total: Bool. Append the joint density of all groups together.
        threads: Int or `None`. Number of threads; `None` uses all cores.

    Returns:
        Float64 array `(len(groups) + total, draws)` in nats. Terms are float32, or float64 if the smallest
        sigma requires it.
    """
    if threads is not None:
        check_count("threads", threads)
    center = mean.mean(axis=0, dtype="float64")
    mean, codes = mean - center, codes - center
    log_var = log_var.astype("float64")
    # differences of float32 numbers of size m have errors of m * 6e-8, which must be small relative to every sigma
    coarse = np.abs(mean).max(axis=0) * 6e-8 > 1e-2 * np.exp(0.5 * log_var.min(axis=0))
    dtype = "float64" if coarse.any() else "float32"
    rows = _Rows(
        mean=np.ascontiguousarray(mean.T, dtype),
        # the exponent is -(difference * scale)^2 - constant
        scale=np.ascontiguousarray(np.exp(-0.5 * log_var).T * math.sqrt(0.5), dtype),
        constants=np.stack(
            [0.5 * (log_var[:, g].sum(axis=1) + log_var[:, g].shape[1] * math.log(2 * math.pi)) for g in groups]
        ),
        groups=[range(mean.shape[1])[group] for group in groups],
        total=total,
    )
    codes = codes.astype(dtype)
    threads = threads or available_cores()
    of_few_rows = min(DRAWS_AT_ONCE * ROWS_AT_ONCE // len(log_var), -(-len(codes) // threads))
    at_once = max(DRAWS_AT_ONCE, of_few_rows)
    blocks = [codes[start : start + at_once] for start in range(0, len(codes), at_once)]
    with ThreadPoolExecutor(threads) as pool:
        logs = list(pool.map(rows.log_sum, blocks))
    return np.concatenate(logs, axis=1) - math.log(len(log_var))


class _Rows:
    """Posterior rows prepared for summation."""

    def __init__(self, mean, scale, constants, groups, total):
        self.mean, self.scale, self.groups, self.total = mean, scale, groups, total
        if total:
            constants = np.concatenate([constants, constants.sum(axis=0, keepdims=True)])
        self.constants = constants.astype(mean.dtype)

    def log_sum(self, codes):
        """Log of the summed densities at each code: float64 `(groups + total, codes)`."""
        sums = [_LogSumExp(len(codes)) for _ in self.constants]
        size = (len(codes), min(ROWS_AT_ONCE, self.mean.shape[1]))
        buffers = [np.empty(size, self.mean.dtype) for _ in range(3)]
        for start in range(0, self.mean.shape[1], ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            width = self.mean[:, rows].shape[1]
            one, group, everything = (buffer[:, :width] for buffer in buffers)
            if self.total:
                everything[:] = 0.0
            for index, latents in enumerate(self.groups):
                self._quadratic(codes, latents, rows, one, group)
                if self.total:
                    everything += group
                sums[index].add(np.subtract(-self.constants[index, rows], group, out=group))
            if self.total:
                sums[-1].add(np.subtract(-self.constants[-1, rows], everything, out=everything))
        return np.stack([total.result() for total in sums])

    def _quadratic(self, codes, latents, rows, one, out):
        """Writes sum_j (z_j - mu_nj)^2 / (2 sigma_nj^2) into `out`."""
        for position, latent in enumerate(latents):
            square = one if position else out
            np.subtract(codes[:, latent, None], self.mean[latent, rows], out=square)
            square *= self.scale[latent, rows]
            square *= square
            if position:
                out += square


class _LogSumExp:
    """Running log-sum-exp over blocks of columns."""

    def __init__(self, rows):
        self.largest = np.full(rows, -np.inf)
        self.sum = np.zeros(rows)

    def add(self, exponents):
        """Adds a block; overwrites `exponents`."""
        largest = np.maximum(self.largest, exponents.max(axis=1))
        exponents -= largest[:, None].astype(exponents.dtype)
        np.exp(exponents, out=exponents)
        self.sum *= np.exp(self.largest - largest)
        self.sum += exponents.sum(axis=1)
        self.largest = largest

    def result(self):
        return self.largest + np.log(self.sum)
