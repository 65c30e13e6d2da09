"""MIG and MIG-sup: gaps in the matrix of normalized mutual information."""

import warnings
from typing import Any

import numpy as np

from keras_provlae.metrics.posteriors import to_numpy

LARGEST = 1.1  # sampled shares may slightly exceed 1


def mig(normalized: Any) -> float:
    """Computes the mutual information gap between the two best latents of each factor, averaged over factors.

    A low MIG means that factors are split over several latents. All latents count, active or not.

    Args:
        normalized: Float array `(factors, latents)`: I(z_j; v_k) / H(v_k), as
            `mutual_information(...).normalized`. Negative values count as 0. Rows of nan, which are
            factors with a single value, are left out. With a single latent, the second best is 0.

    Returns:
        Float in [0, 1]; nan, with a warning, if no factor is left.

    Raises:
        TypeError: If `normalized` is not an array.
        ValueError: If it is not a matrix, is empty, or is nan in part of a row.

    Example:
        >>> round(mig([[0.9, 0.9, 0.0], [0.0, 0.0, 0.8]]), 6)  # the first factor is split
        0.4

    Source: Chen et al. (2018), equation 6; Li et al. (2020), section 3.4.
    """
    return _mean_gap(_defined(normalized), "MIG", "no factor has two values")


def mig_sup(normalized: Any, active: Any = None) -> float:
    """Computes the mutual information gap between the two best factors of each latent, averaged over latents.

    A low MIG-sup means that several factors are merged in one latent.

    Args:
        normalized: Float array `(factors, latents)`, as for `mig`.
        active: Bool array `(latents,)`, as `mutual_information(...).active`: the meaningful latents
            J of equation 12; `None` uses all. With a single factor, the second best is 0.

    Returns:
        Float in [0, 1]; nan, with a warning, if no latent is active.

    Raises:
        ValueError: If the shapes do not match.

    Example:
        >>> round(mig_sup([[0.9, 0.0], [0.8, 0.0]], active=[True, False]), 6)  # two factors in one latent
        0.1

    Source: Li et al. (2020), equation 12.
    """
    normalized = _defined(normalized)
    if active is not None:
        active = np.asarray(active)
        if active.shape != normalized.shape[1:] or active.dtype != bool:
            raise ValueError(
                f"`active` must be {normalized.shape[1]} booleans, one per latent (column). "
                f"Received: active.shape={active.shape}, active.dtype={active.dtype}."
            )
        normalized = normalized[:, active]
    return _mean_gap(normalized.T, "MIG-sup", "no latent is active" if len(normalized) else "no factor has two values")


def _defined(normalized):
    if hasattr(normalized, "normalized"):
        raise TypeError(
            f"`normalized` must be an array. Received: {type(normalized).__name__}; pass its `.normalized`."
        )
    normalized = to_numpy("normalized", normalized).astype("float64")
    if normalized.ndim != 2 or 0 in normalized.shape:
        raise ValueError(
            "`normalized` must have the shape (factors, latents), with at least one of each. "
            f"Received: normalized.shape={normalized.shape}."
        )
    defined = normalized[~np.isnan(normalized).all(axis=1)]
    if not np.isfinite(defined).all():
        raise ValueError("`normalized` must be finite, except for rows of nan. Received: nan or infinity in a row.")
    if defined.size and defined.max() > LARGEST:
        warnings.warn(
            f"`normalized` must be I(z; v) / H(v), which is at most 1, not nats. Received: {defined.max():.3g}.",
            stacklevel=4,
        )
    return np.maximum(defined, 0.0)


def _mean_gap(rows, name, reason):
    if rows.size == 0:
        warnings.warn(f"{name} is undefined: {reason}.", stacklevel=3)
        return float("nan")
    return float(row_gaps(rows).mean())


def row_gaps(rows: np.ndarray) -> np.ndarray:
    """Gap between the two largest entries of each row; a missing second entry is 0: float64 `(rows,)`."""
    with_zero = np.concatenate([rows, np.zeros((len(rows), 1))], axis=1)
    second, first = np.sort(with_zero, axis=1)[:, -2:].T
    return first - second
