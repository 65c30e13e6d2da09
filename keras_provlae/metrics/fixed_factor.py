"""Scores by interventions: batches in which one factor is held fixed."""

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
    """FactorVAE score: how well the latent that varies least in a batch tells which factor the batch holds fixed.

    Each vote draws a factor and a value of it (as often as it occurs), takes `batch_size` rows with
    that value, with replacement, and names the latent with the smallest variance relative to its variance
    over all rows. The majority vote of the training votes of each latent is its prediction.

    Args:
        mean: Float array `(rows, latents)`: means of the posteriors.
        factors: Integer array `(rows, factors)`. Factors with one value are left out, with a warning.
        seed: Int or `None`. Seed of the votes.
        num_train: Int >= 1. Votes that the classifier is made of.
        num_eval: Int >= 1. Votes that it is scored on.
        batch_size: Int >= 2. Rows of a vote.
        std_threshold: Float >= 0. Latents whose standard deviation over all rows is below it, or rounding,
            are left out: they would win every vote.

    Returns:
        Float in [0, 1]: accuracy on the evaluation votes. 0, with a warning, if no latent is left; else 1
            by definition for a single factor.

    Raises:
        TypeError, ValueError: If an array or a number is unfit.

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
            f"No latent has a standard deviation of the means of {std_threshold} or more: the FactorVAE score is 0.",
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
    """BetaVAE score: how well a linear classifier tells which factor pairs of images have in common.

    A point is the mean of |mu - mu'| over `batch_size` pairs of rows that share the value of
    one factor and are random otherwise; a logistic regression names the factor. Needs
    scikit-learn (the extra `metrics`).

    Args:
        mean: Float array `(rows, latents)`: means of the posteriors.
        factors: Integer array `(rows, factors)`. Factors with one value are left out, with a warning.
        seed: Int or `None`. Seed of the pairs.
        num_train: Int >= 1. Points to fit on.
        num_eval: Int >= 1. Points to score on.
        batch_size: Int >= 1. Pairs of a point.

    Returns:
        Float in [0, 1]: accuracy on the evaluation points; 1 by definition for a single factor.

    Raises:
        TypeError, ValueError: If an array or a number is unfit.
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
        raise ValueError(f"`num_train` must be large enough to meet two factors. Received: num_train={num_train}.")
    model = linear_model.LogisticRegression(max_iter=1000)
    model.fit(points[:num_train], fixed[:num_train])
    return float(model.score(points[num_train:], fixed[num_train:]))


def _check_votes(seed, num_train, num_eval, batch_size, least):
    check_seed(seed)
    check_count("num_train", num_train)
    check_count("num_eval", num_eval)
    check_count("batch_size", batch_size, least)


class _RowsByValue:
    """Draws rows in which a factor has a given value."""

    def __init__(self, factors):
        self.labels = factors.labels
        self.order = np.argsort(factors.labels, axis=0, kind="stable")
        self.counts = [
            np.bincount(column, minlength=size) for column, size in zip(self.labels.T, factors.sizes, strict=True)
        ]
        self.starts = [np.cumsum(counts) - counts for counts in self.counts]

    def like(self, factor, anchors, number, rng):
        """For each factor and anchor row, `number` rows with the anchor's value of that factor: `(anchors, number)`."""
        rows = np.empty((len(anchors), number), "int64")
        share = rng.random(rows.shape)
        for index in range(self.labels.shape[1]):
            mine = factor == index
            value = self.labels[anchors[mine], index]
            offset = (share[mine] * self.counts[index][value][:, None]).astype("int64")
            rows[mine] = self.order[self.starts[index][value][:, None] + offset, index]
        return rows
