"""InfoMEC: modularity, explicitness and compactness in terms of information."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from keras_provlae.checks import check_seed, optional
from keras_provlae.metrics.classifiers import without_sklearn_warnings
from keras_provlae.metrics.posteriors import (
    UndefinedScoreError,
    check_factors,
    check_mean,
    check_rows,
    check_varied,
    factor_name,
    random_rows,
    varied_latents,
)

ACTIVE_RANGE = 0.05  # of the widest latent's range, as in the released program
NEIGHBORS = 10
MOST_ROWS = 10_000


class InfoMECScores(NamedTuple):
    """InfoM, InfoE, InfoC and the values behind them."""

    modularity: float  # InfoM in [0, 1]
    explicitness: float  # InfoE, at most 1
    compactness: float  # InfoC in [0, 1]
    explicitness_nats: np.ndarray  # float64 (factors,): predictive information about each factor
    normalized: np.ndarray  # float64 (factors, latents): I(z_j; v_k) / H(v_k) by nearest neighbors
    active: np.ndarray  # bool (latents,)


def infomec(mean: Any, factors: Any, rows: Any = None, seed: int | None = 0) -> InfoMECScores:
    """Computes InfoM, InfoE and InfoC.

    Modularity is the share of a latent's information that is about its main factor, averaged over the active
    latents. Compactness is the share of the information about a factor that its main latent has. Both are
    rescaled so that chance is 0. Explicitness is the information a linear classifier extracts from all
    latents, H_V(v) - H_V(v | z), as a share of H_V(v).

    Mutual information between means and factors comes from scikit-learn's nearest-neighbor estimator with
    10 neighbors. A latent is active if its range exceeds 1/20 of the widest latent's. Requires scikit-learn
    (the extra `metrics`).

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        factors: Integer array `(rows, factors)`. At least two factors must vary; factors with a single value
            are dropped with a warning.
        rows: Int array of rows to use; `None` draws at most 10,000.
        seed: Int or `None`. Seed of the rows and of the estimator's tie-breaking noise.

    Returns:
        An `InfoMECScores`. Compactness is 1 if a single latent is active. All three scores are 0, with a
        warning, if no latent varies.

    Raises:
        TypeError, ValueError: If an array is invalid, or there are fewer than 12 rows or two factors.
        ImportError: If scikit-learn is not installed.

    Source: Hsu et al. (2023), "Disentanglement via latent quantization", section 4, and their
    released program. This regression does not weight classes, so H_V(v) is the empirical H(v).
    """
    mean = check_mean(mean)
    factors = check_factors(factors, len(mean))
    check_seed(seed)
    if len(mean) < NEIGHBORS + 2:
        raise UndefinedScoreError(f"InfoMEC needs at least {NEIGHBORS + 2} rows. Received: {len(mean)}.")
    if rows is None:
        rows = random_rows(len(mean), MOST_ROWS, seed)
    rows = check_rows("rows", rows, len(mean), least=NEIGHBORS + 2)
    varied, mean = varied_latents(mean[rows]), mean[rows].astype("float64")
    factors = check_varied(check_factors(factors.labels[rows], len(mean), factors.names), len(mean), "InfoMEC", least=2)
    for factor, size in enumerate(factors.sizes):
        if size == len(mean):
            raise UndefinedScoreError(
                f"Two rows must share a value of {factor_name(factors.names, factor)}. Received: {size} values in "
                f"{len(mean)} rows. Leave out a factor that numbers the rows."
            )
    entropies = factors.entropies()
    ranges = np.where(varied, np.ptp(mean, axis=0), 0.0)
    shape = (len(entropies), mean.shape[1])
    if not varied.any():
        warnings.warn("Every latent has one value in all rows: InfoM, InfoE and InfoC are 0.", stacklevel=2)
        return InfoMECScores(0.0, 0.0, 0.0, np.zeros(shape[0]), np.zeros(shape), np.zeros(shape[1], bool))
    active = ranges > ACTIVE_RANGE * ranges.max()
    scaled = np.where(varied, mean - mean.mean(axis=0), 0.0) / np.where(varied, mean.std(axis=0), 1.0)
    normalized = _neighbor_information(scaled, factors.labels, seed) / entropies[:, None]
    nats = np.maximum(entropies - _predictive_entropies(scaled, factors.labels), 0.0)
    return InfoMECScores(
        modularity=_share_of_largest(normalized[:, active].T),
        explicitness=float((nats / entropies).mean()),
        compactness=_share_of_largest(normalized[:, active]),
        explicitness_nats=nats,
        normalized=normalized,
        active=active,
    )


def _neighbor_information(mean, labels, seed):
    """Estimates I(z_j; v_k) by nearest neighbors, in nats: `(factors, latents)`."""
    selection = optional("sklearn.feature_selection", "metrics", "scikit-learn")
    settings = {"discrete_features": False, "n_neighbors": NEIGHBORS, "random_state": seed}
    with without_sklearn_warnings():
        return np.stack([selection.mutual_info_classif(mean, column, **settings) for column in labels.T])


def _predictive_entropies(mean, labels):
    """H_V(v | z): training cross-entropy of an unpenalized logistic regression, in nats."""
    linear_model = optional("sklearn.linear_model", "metrics", "scikit-learn")
    metrics = optional("sklearn.metrics", "metrics", "scikit-learn")
    entropies = []
    for column in labels.T:
        with without_sklearn_warnings():  # separable classes have no optimum
            model = linear_model.LogisticRegression(C=np.inf, max_iter=100).fit(mean, column)
        entropies.append(metrics.log_loss(column, model.predict_proba(mean), labels=model.classes_))
    return np.array(entropies)


def _share_of_largest(rows):
    """Mean over rows of the largest entry's share, rescaled so that 1 / entries (chance) is 0."""
    entries = rows.shape[1]
    if entries == 1:
        return 1.0
    totals = rows.sum(axis=1)
    shares = np.where(totals > 0, rows.max(axis=1) / np.where(totals > 0, totals, 1.0), 1 / entries)
    return float((shares.mean() - 1 / entries) / (1 - 1 / entries))
