"""Checks the inputs of the metrics: posteriors (mean, log variance) and ground-truth factors.

Rows are images; columns of a posterior are latents, columns of the factors are factors.
"""

import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

COLLAPSED, LARGEST_STD = 0.05, 5.0  # log variances in [0, 0.05] match the prior; in [0, 5], probably not log variances
LARGEST_LOG_VAR = 100.0
LARGEST_MEAN = 1e30
LARGEST_LABEL = 2.0**53  # beyond it, float64 skips integers
ROUNDING_STEPS = 8  # in steps between neighboring floats; smaller ranges are only rounding
LEAST_RANGE = 1e-100  # its square does not underflow


class UndefinedScoreError(ValueError):
    """Raised when a score is undefined for valid data."""


class Factors(NamedTuple):
    """Ground-truth factors with values renumbered 0, 1, 2, ..."""

    labels: np.ndarray  # int64 (rows, factors)
    sizes: tuple[int, ...]  # number of values that occur, per factor
    names: tuple[str, ...] | None = None

    def probabilities(self, factor: int, weights: np.ndarray | None = None) -> np.ndarray:
        """Empirical p(v) of one factor: float64 `(sizes[factor],)`."""
        counts = np.bincount(self.labels[:, factor], weights, minlength=self.sizes[factor])
        return counts / counts.sum()

    def entropies(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Empirical H(v) of each factor: float64 `(factors,)` in nats."""
        return np.array([entropy(self.probabilities(factor, weights)) for factor in range(len(self.sizes))])

    def varied(self) -> "Factors":
        """Keeps the factors with at least two values, under their current names or numbers."""
        kept = [factor for factor, size in enumerate(self.sizes) if size > 1]
        names = tuple(factor_name(self.names, factor) for factor in kept)
        return Factors(self.labels[:, kept], tuple(self.sizes[factor] for factor in kept), names)

    def constant(self) -> list[str]:
        """Names or numbers of the factors with a single value."""
        return [factor_name(self.names, factor) for factor, size in enumerate(self.sizes) if size == 1]


def entropy(probabilities: np.ndarray) -> float:
    """-sum p log p in nats; 0 log 0 is 0."""
    p = probabilities[probabilities > 0]
    return max(float(-(p * np.log(p)).sum()), 0.0)


def check_mean(mean: Any, name: str = "mean") -> np.ndarray:
    """Checks means. Returns a finite float array `(rows, latents)` with at least two rows."""
    array = to_numpy(name, mean)
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        raise ValueError(
            f"`{name}` must have the shape (rows, latents), with at least two rows and one latent. "
            f"Received: {name}.shape={array.shape}."
        )
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"`{name}` must be real numbers. Received: {name}.dtype={array.dtype}.")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype("float64" if array.dtype.kind in "iu" else "float32")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        rows = np.flatnonzero(bad)
        raise ValueError(
            f"`{name}` must be finite. Received: NaN or infinity in {len(rows)} of {len(array)} rows, "
            f"the first {rows[0]}: {array[rows[0]]}. The training may have diverged."
        )
    if np.abs(array).max() > LARGEST_MEAN:
        raise ValueError(f"`{name}` must lie within +-1e30. Received: a value of {np.abs(array).max():g}.")
    return array


def to_numpy(name: str, array: Any) -> np.ndarray:
    """Converts a tensor of any backend, an array or nested lists to a NumPy array."""
    try:
        if keras.ops.is_tensor(array):
            return keras.ops.convert_to_numpy(array)
        return np.asarray(array.numpy() if hasattr(array, "numpy") else array)  # a tensor of another backend
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be one array. Received: {type(array).__name__}: {error}") from error


def check_posterior(mean: Any, log_var: Any) -> tuple[np.ndarray, np.ndarray]:
    """Checks means and log variances. Warns if the latter look like standard deviations or variances."""
    mean, log_var = check_mean(mean), check_mean(log_var, "log_var")
    if mean.shape != log_var.shape:
        raise ValueError(
            "`mean` and `log_var` must have the same shape. "
            f"Received: mean.shape={mean.shape}, log_var.shape={log_var.shape}."
        )
    low, high = log_var.min(), log_var.max()
    if max(-low, high) > LARGEST_LOG_VAR:
        raise ValueError(f"`log_var` must lie within +-{LARGEST_LOG_VAR:g}. Received: values in [{low:g}, {high:g}].")
    if low >= 0 and COLLAPSED < high < LARGEST_STD:
        warnings.warn(
            f"`log_var` lies in [{low:.4g}, {high:.4g}], which looks like standard deviations or variances. It must be "
            "the natural log of the variance, as returned by `model.encode`; from a standard deviation, pass "
            "2 * np.log(std).",
            stacklevel=3,
        )
    return mean, log_var


def varied_latents(mean: np.ndarray, steps: int = ROUNDING_STEPS) -> np.ndarray:
    """Finds latents whose means differ by more than rounding: bool `(latents,)`.

    Args:
        mean: Float array `(rows, latents)`.
        steps: Int >= 1. Minimum range, in steps between neighboring floats.
    """
    rounding = steps * np.spacing(np.abs(mean).max(axis=0)).astype("float64")
    return np.ptp(mean.astype("float64"), axis=0) > np.maximum(rounding, LEAST_RANGE)


def check_labels(factors: Any, names: Any = None) -> np.ndarray:
    """Checks factors, integers or integral floats. Returns integers `(rows, factors)`; `(rows,)` is one factor."""
    labels = to_numpy("factors", factors)
    if labels.ndim == 1:
        labels = labels[:, None]
    if labels.ndim != 2 or labels.shape[1] < 1:
        raise ValueError(
            "`factors` must have the shape (rows, factors), with at least one factor. "
            f"Received: factors.shape={np.shape(factors)}."
        )
    if labels.dtype.kind in "iub":
        return labels
    if labels.dtype.kind != "f" and labels.dtype.name != "bfloat16":
        raise TypeError(
            "`factors` must be integers: the index of each factor's value. "
            f"Received: factors.dtype={labels.dtype}. For a factor with other values, use "
            "np.unique(values, return_inverse=True)[1]."
        )
    dtype, labels = labels.dtype, labels.astype("float64")
    bad = ~((np.abs(labels) <= LARGEST_LABEL) & (labels == np.rint(labels)))  # nan is neither
    if bad.any():
        row, factor = np.argwhere(bad)[0]
        name = f"factor {names[factor]!r}" if isinstance(names, Sequence) and factor < len(names) else "the factor"
        raise ValueError(
            "`factors` must be integers or integral floats: the index of each factor's value. "
            f"Received: factors.dtype={dtype}, {labels[row, factor]:.6g} in row {row} of column {factor}. "
            f"If {name} has few values, number them: np.unique(factors[:, {factor}], return_inverse=True)[1]. "
            f"If it is continuous, bin it: np.digitize(factors[:, {factor}], "
            f"np.quantile(factors[:, {factor}], np.linspace(0, 1, 11)[1:-1]))."
        )
    return labels.astype("int64")


def check_factors(factors: Any, rows: int, names: Any = None) -> Factors:
    """Checks factors, `(rows, factors)` or `(rows,)` for one factor, and their names. Renumbers the values."""
    if isinstance(factors, Factors):  # already checked
        return factors
    labels = check_labels(factors, names)
    names = check_names(names, labels.shape[1])
    if len(labels) != rows:
        raise ValueError(
            f"`factors` must have one row per row of the codes. Received: {len(labels)} rows of factors "
            f"and {rows} of codes."
        )
    columns = [_renumber(labels[:, factor]) for factor in range(labels.shape[1])]
    return Factors(np.stack([column for column, _ in columns], axis=1), tuple(size for _, size in columns), names)


def check_varied(factors: Any, rows: int, score: str, least: int = 1) -> Factors:
    """Checks factors as `check_factors` does and drops those with a single value, with a warning.

    Raises `UndefinedScoreError` if fewer than `least` factors are left.
    """
    factors = check_factors(factors, rows)
    varied = factors.varied()
    if len(varied.sizes) < least:
        raise UndefinedScoreError(
            f"{score} needs at least {least} factor{'s' if least > 1 else ''} with two values. "
            f"Received: {len(factors.sizes)} factors, {len(varied.sizes)} of them with two values."
        )
    if len(varied.sizes) < len(factors.sizes):
        constant = [factor for factor, size in enumerate(factors.sizes) if size == 1]
        warnings.warn(
            f"{score} leaves out the factors {constant} (columns), which have one value in all rows.", stacklevel=3
        )
    return varied


def check_names(names: Any, number: int) -> tuple[str, ...] | None:
    """Checks that the names of the factors are unique; `None` stays `None`."""
    if names is None:
        return None
    given = [str(name) for name in names] if isinstance(names, Iterable) and not isinstance(names, str) else None
    if given is None or len(given) != number or len(set(given)) < number:
        raise ValueError(f"`factor_names` must name {number} factors, each differently. Received: {names!r}.")
    return tuple(given)


def check_weights(weights: Any, rows: int) -> np.ndarray | None:
    """Checks non-negative row weights `(rows,)`. Returns float64 with mean 1; `None` stays `None`."""
    if weights is None:
        return None
    array = to_numpy("weights", weights).astype("float64")
    if array.shape != (rows,) or not np.isfinite(array).all() or array.min() < 0 or (array > 0).sum() < 2:
        raise ValueError(
            f"`weights` must be {rows} finite, non-negative numbers, at least two of them above 0. "
            f"Received: weights.shape={array.shape}, weights={np.array2string(array.ravel()[:5])} ..."
        )
    return array * (rows / array.sum())


def check_rows(name: str, rows: Any, count: int, least: int = 1) -> np.ndarray:
    """Checks at least `least` row numbers in 0 .. count - 1."""
    array = to_numpy(name, rows)
    if (
        array.ndim != 1
        or array.dtype.kind not in "iu"
        or len(array) < least
        or not 0 <= array.min() <= array.max() < count
    ):
        raise ValueError(
            f"`{name}` must be row numbers 0 .. {count - 1}, at least {least}. "
            f"Received: {name}={np.array2string(array, threshold=6)} of shape {array.shape}."
        )
    return array


def random_rows(count: int, number: int, seed: int | None) -> np.ndarray:
    """Draws at most `number` of the rows 0 .. count - 1, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:number])


def factor_name(names: Sequence[str] | None, factor: int) -> str:
    """Returns a factor's name, or "factor k" if it has none."""
    return f"factor {factor}" if names is None else str(names[factor])


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _renumber(column):
    """Renumbers values to 0 .. V - 1 in their order. Returns them and V."""
    column = column.astype("int64") if column.dtype.kind != "u" or column.dtype.itemsize < 8 else column
    low = column.min()
    span = int(column.max()) - int(low) + 1
    if span > 4 * len(column) + 1024:  # sparse values: sorting is cheaper
        values, labels = np.unique(column, return_inverse=True)
        return labels.reshape(-1).astype("int64"), len(values)
    offset = (column - low).astype("int64")
    present = np.bincount(offset, minlength=span) > 0
    return (np.cumsum(present) - 1)[offset], int(present.sum())
