"""Intervention scores: predict which factor a batch holds fixed."""

import warnings
from typing import Any

import numpy as np

from keras_provlae.checks import check_count, check_number, check_seed, optional
from keras_provlae.metrics.posteriors import check_mean, check_varied, varied_latents

BATCH_SIZE, STD_THRESHOLD = 64, 0.05  # Locatello et al. (2019)
VOTES_AT_ONCE = 512


def factor_vae_score(
    mean: Any,
    factors: Any,
    seed: int | None = 0,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    batch_size: int = BATCH_SIZE,
    std_threshold: float = STD_THRESHOLD,
) -> float:
    """Computes the FactorVAE score: how well the least varying latent predicts the factor a batch holds fixed.

    Each vote draws a factor and one of its values (by frequency), draws `batch_size` rows with that value
    with replacement, and picks the latent with the smallest variance relative to its variance over all rows.
    Each latent predicts the factor that most of its training votes hold fixed.

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        factors: Integer array `(rows, factors)`. Factors with a single value are dropped with a warning.
        seed: Int or `None`. Seed of the votes.
        num_train: Int >= 1. Training votes.
        num_eval: Int >= 1. Evaluation votes.
        batch_size: Int >= 2. Rows per vote.
        std_threshold: Float >= 0. Latents with a smaller standard deviation over all rows, or one that is only
            rounding, are left out: they would win every vote.

    Returns:
        Float in [0, 1]: accuracy on the evaluation votes. 0, with a warning, if no latent is left; otherwise 1
            by definition for a single factor.

    Raises:
        TypeError, ValueError: If an array or a number is invalid.

    Example:
        >>> factors = np.stack(np.meshgrid(range(4), range(4)), axis=-1).reshape(-1, 2)
        >>> factor_vae_score(factors * 1.0, factors, num_train=100, num_eval=100)
        1.0

    Source: Kim and Mnih (2018), section 4; thresholds of Locatello et al. (2019).
    """
    mean = check_mean(mean)
    factors = check_varied(factors, len(mean), "The FactorVAE score")
    _check_votes(seed, num_train, num_eval, batch_size, least=2)
    check_number("std_threshold", std_threshold, 0, np.inf)
    variance = mean.var(axis=0, ddof=1, dtype="float64")
    used = varied_latents(mean) & (np.sqrt(variance) >= std_threshold)
    if not used.any():
        warnings.warn(
            f"No latent's means have a standard deviation of {std_threshold} or more: the FactorVAE score is 0.",
            stacklevel=2,
        )
        return 0.0
    mean, variance = mean[:, used].astype("float64"), variance[used]
    rows = _RowsByValue(factors)
    rng = np.random.default_rng(seed)
    fixed = rng.integers(len(factors.sizes), size=num_train + num_eval)
    winners = np.empty(len(fixed), "int64")
    for start in range(0, len(fixed), VOTES_AT_ONCE):
        votes = slice(start, start + VOTES_AT_ONCE)
        anchors = rng.integers(len(mean), size=fixed[votes].size)
        batch = rows.like(fixed[votes], anchors, batch_size, rng)
        winners[votes] = (mean[batch].var(axis=1, ddof=1) / variance).argmin(axis=1)
    counts = np.zeros((mean.shape[1], len(factors.sizes)), "int64")
    np.add.at(counts, (winners[:num_train], fixed[:num_train]), 1)
    prediction = counts.argmax(axis=1)
    return float((prediction[winners[num_train:]] == fixed[num_train:]).mean())


def beta_vae_score(
    mean: Any,
    factors: Any,
    seed: int | None = 0,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    batch_size: int = BATCH_SIZE,
) -> float:
    """Computes the BetaVAE score: how well a linear classifier predicts which factor pairs of images share.

    A point is the mean of |mu - mu'| over `batch_size` pairs of rows that share the value of one factor
    and are otherwise random. A logistic regression predicts the factor from the point. Requires
    scikit-learn (the extra `metrics`).

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        factors: Integer array `(rows, factors)`. Factors with a single value are dropped with a warning.
        seed: Int or `None`. Seed of the pairs.
        num_train: Int >= 1. Training points.
        num_eval: Int >= 1. Evaluation points.
        batch_size: Int >= 1. Pairs per point.

    Returns:
        Float in [0, 1]: accuracy on the evaluation points; 1 by definition for a single factor.

    Raises:
        TypeError, ValueError: If an array or a number is invalid.
        ImportError: If scikit-learn is not installed.

    Source: Higgins et al. (2017), section 3.
    """
    linear_model = optional("sklearn.linear_model", "metrics", "scikit-learn")
    mean = check_mean(mean).astype("float64")
    factors = check_varied(factors, len(mean), "The BetaVAE score")
    _check_votes(seed, num_train, num_eval, batch_size, least=1)
    if len(factors.sizes) == 1:
        return 1.0
    rows = _RowsByValue(factors)
    rng = np.random.default_rng(seed)
    fixed = rng.integers(len(factors.sizes), size=num_train + num_eval)
    points = np.empty((len(fixed), mean.shape[1]))
    for start in range(0, len(fixed), VOTES_AT_ONCE):
        some = slice(start, start + VOTES_AT_ONCE)
        first = rng.integers(len(mean), size=(fixed[some].size, batch_size))
        second = rows.like(np.repeat(fixed[some], batch_size), first.ravel(), 1, rng).reshape(first.shape)
        points[some] = np.abs(mean[first] - mean[second]).mean(axis=1)
    if len(np.unique(fixed[:num_train])) == 1:
        raise ValueError(f"`num_train` must be large enough to draw two factors. Received: num_train={num_train}.")
    model = linear_model.LogisticRegression(max_iter=1000)
    model.fit(points[:num_train], fixed[:num_train])
    return float(model.score(points[num_train:], fixed[num_train:]))


def _check_votes(seed, num_train, num_eval, batch_size, least):
    check_seed(seed)
    check_count("num_train", num_train)
    check_count("num_eval", num_eval)
    check_count("batch_size", batch_size, least)


class _RowsByValue:
    """Index of rows by factor value, to draw rows with a given value."""

    def __init__(self, factors):
        self.labels = factors.labels
        self.order = np.argsort(factors.labels, axis=0, kind="stable")
        self.counts = [
            np.bincount(column, minlength=size) for column, size in zip(self.labels.T, factors.sizes, strict=True)
        ]
        self.starts = [np.cumsum(counts) - counts for counts in self.counts]

    def like(self, factor, anchors, number, rng):
        """Draws `number` rows per anchor row that share its value of the given factor: `(anchors, number)`."""
        rows = np.empty((len(anchors), number), "int64")
        share = rng.random(rows.shape)
        for index in range(self.labels.shape[1]):
            chosen = factor == index
            value = self.labels[anchors[chosen], index]
            offset = (share[chosen] * self.counts[index][value][:, None]).astype("int64")
            rows[chosen] = self.order[self.starts[index][value][:, None] + offset, index]
        return rows
