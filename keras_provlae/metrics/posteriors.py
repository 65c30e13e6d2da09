"""What every metric is given, checked: posteriors (mean, log variance) and ground-truth factors.

Rows are images; columns of a posterior are latents, columns of the factors are factors.
"""

import importlib
import os
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import keras
import numpy as np

LARGEST_STD = 5.0  # a posterior whose log variances all lie between 0 and this is wider than its prior everywhere
LARGEST_LOG_VAR = 30.0


class Factors(NamedTuple):
    """Ground-truth factors with their values renumbered 0, 1, .. without holes."""

    labels: np.ndarray  # int64 (rows, factors)
    sizes: tuple[int, ...]  # values that occur, per factor

    def probabilities(self, factor: int, weights: np.ndarray | None = None) -> np.ndarray:
        """p(v) of each value of one factor: float64 `(sizes[factor],)`."""
        counts = np.bincount(self.labels[:, factor], weights, minlength=self.sizes[factor])
        return counts / counts.sum()

    def entropies(self, weights: np.ndarray | None = None) -> np.ndarray:
        """H(v) of every factor, empirical: float64 `(factors,)` in nats."""
        return np.array([entropy(self.probabilities(factor, weights)) for factor in range(len(self.sizes))])


def entropy(probabilities: np.ndarray) -> float:
    """-sum p log p in nats; 0 log 0 is 0."""
    p = probabilities[probabilities > 0]
    return max(float(-(p * np.log(p)).sum()), 0.0)


def check_mean(mean: Any, name: str = "mean") -> np.ndarray:
    """Means as a float array `(rows, latents)` with at least two rows, every number finite."""
    array = keras.ops.convert_to_numpy(mean)
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        raise ValueError(
            f"`{name}` must have the shape (rows, latents), with at least two rows and one latent. "
            f"Received: {name}.shape={array.shape}."
        )
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"`{name}` must be made of real numbers. Received: {name}.dtype={array.dtype}.")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype("float64" if array.dtype.kind in "iu" else "float32")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        rows = np.flatnonzero(bad)
        raise ValueError(
            f"`{name}` must be finite. Received: NaN or infinity in {len(rows)} of {len(array)} rows, "
            f"the first {rows[0]}: {array[rows[0]]}. A training that diverged looks like this."
        )
    return array


def check_posterior(mean: Any, log_var: Any) -> tuple[np.ndarray, np.ndarray]:
    """Means and log variances of the same shape; a warning where the latter look like something else."""
    mean, log_var = check_mean(mean), check_mean(log_var, "log_var")
    if mean.shape != log_var.shape:
        raise ValueError(
            "`mean` and `log_var` must have the same shape. "
            f"Received: mean.shape={mean.shape}, log_var.shape={log_var.shape}."
        )
    low, high = log_var.min(), log_var.max()
    if (low > 0 and high < LARGEST_STD) or high > LARGEST_LOG_VAR:
        warnings.warn(
            f"`log_var` lies in [{low:.4g}, {high:.4g}], which looks like standard deviations or variances. It must be "
            "the natural log of the variance, as `model.encode` gives it; from a standard deviation, pass "
            "2 * np.log(std).",
            stacklevel=3,
        )
    return mean, log_var


def check_factors(factors: Any, rows: int) -> Factors:
    """Integer labels `(rows, factors)`, or `(rows,)` for a single factor, of any values."""
    labels = keras.ops.convert_to_numpy(factors)
    if labels.ndim == 1:
        labels = labels[:, None]
    if labels.ndim != 2 or labels.shape[1] < 1:
        raise ValueError(
            "`factors` must have the shape (rows, factors), with at least one factor. "
            f"Received: factors.shape={np.shape(factors)}."
        )
    if labels.dtype.kind not in "iub":
        raise TypeError(
            "`factors` must be integers: the index of each factor's value. "
            f"Received: factors.dtype={labels.dtype}. For one factor with values of another kind, take "
            "np.unique(values, return_inverse=True)[1]."
        )
    if len(labels) != rows:
        raise ValueError(
            f"`factors` must have a row for each row of the codes. Received: {len(labels)} rows of factors "
            f"and {rows} of codes."
        )
    columns = [_renumber(labels[:, factor]) for factor in range(labels.shape[1])]
    return Factors(np.stack([column for column, _ in columns], axis=1), tuple(size for _, size in columns))


def check_weights(weights: Any, rows: int) -> np.ndarray | None:
    """Row weights `(rows,)`, none negative, as float64 with the mean 1; `None` stays `None`."""
    if weights is None:
        return None
    array = np.asarray(keras.ops.convert_to_numpy(weights), "float64")
    if array.shape != (rows,) or not np.isfinite(array).all() or array.min() < 0 or array.sum() <= 0:
        raise ValueError(
            f"`weights` must be {rows} finite numbers, none negative and not all 0. "
            f"Received: weights.shape={array.shape}, weights={np.array2string(array.ravel()[:5])} ..."
        )
    return array * (rows / array.sum())


def check_positive(**numbers: int) -> None:
    """Counts that must be at least 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={number}.")


def factor_name(names: Sequence[str] | None, factor: int) -> str:
    """What to call a factor: its name where there is one, else its number."""
    return f"factor {factor}" if names is None else str(names[factor])


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def optional(module: str, extra: str, package: str) -> ModuleType:
    """A module of an optional dependency, with an error that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'This needs {package}: pip install "keras_provlae[{extra}]" (or pip install {package}).'
        ) from error


def _renumber(column):
    """Values 0 .. V - 1 in the order of the original ones, and V."""
    column = column.astype("int64") if column.dtype.kind != "u" or column.dtype.itemsize < 8 else column
    low = column.min()
    span = int(column.max()) - int(low) + 1
    if span > 4 * len(column) + 1024:  # sparse values: sort
        values, labels = np.unique(column, return_inverse=True)
        return labels.reshape(-1).astype("int64"), len(values)
    offset = (column - low).astype("int64")
    present = np.bincount(offset, minlength=span) > 0
    return (np.cumsum(present) - 1)[offset], int(present.sum())
