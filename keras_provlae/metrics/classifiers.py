"""Scores of classifiers that predict factors from codes. Requires scikit-learn (the extra `metrics`)."""

import contextlib
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from keras_provlae.checks import check_seed, optional
from keras_provlae.metrics.mig import row_gaps
from keras_provlae.metrics.posteriors import (
    UndefinedScoreError,
    available_cores,
    check_mean,
    check_rows,
    check_varied,
    factor_name,
    to_numpy,
)

NUM_TRAIN, NUM_TEST = 10_000, 5_000  # Locatello et al. (2019)


class DCIScores(NamedTuple):
    """Disentanglement, completeness and informativeness, each in [0, 1]."""

    disentanglement: float
    completeness: float
    informativeness: float  # accuracy on the test rows, averaged over the factors
    importance: np.ndarray  # float64 (latents, factors): importance of each latent for predicting each factor


def dci(mean: Any, factors: Any, train_rows: Any = None, test_rows: Any = None, seed: int | None = 0) -> DCIScores:
    """Computes disentanglement, completeness and informativeness from boosted trees that predict each factor.

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        factors: Integer array `(rows, factors)`. Factors with a single value are dropped with a warning.
        train_rows: Int array of rows to fit on; `None` draws two thirds of the rows, at most 10,000.
        test_rows: Int array of rows to score on; `None` draws at most 5,000 of the other rows.
        seed: Int or `None`. Seed of the split and of the trees.

    Returns:
        A `DCIScores`.

    Raises:
        TypeError, ValueError: If an array is invalid, or a factor has a single value in the training rows.
        ImportError: If scikit-learn is not installed.

    Source: Eastwood and Williams (2018), section 2.
    """
    ensemble = optional("sklearn.ensemble", "metrics", "scikit-learn")
    data = _Split(mean, factors, train_rows, test_rows, seed, "DCI")

    def boost(labels):
        train_labels, test_labels = labels
        model = ensemble.GradientBoostingClassifier(random_state=seed).fit(data.train - data.center, train_labels)
        return model.feature_importances_, model.score(data.test - data.center, test_labels)

    with without_sklearn_warnings(), ThreadPoolExecutor(available_cores()) as pool:
        importance, accuracy = zip(*pool.map(boost, list(data.labels())), strict=True)
    importance = np.maximum(np.stack(importance, axis=1), 0.0)  # rounding gives some of them -1e-18
    return DCIScores(disentanglement(importance), completeness(importance), float(np.mean(accuracy)), importance)


def disentanglement(importance: Any) -> float:
    """Computes how far each latent is important for one factor only.

    Args:
        importance: Float array `(latents, factors)`, non-negative.

    Returns:
        Float in [0, 1]: 1 - H(importance of a latent over the factors) / log F, averaged over the latents
        weighted by their importance. 1 for a single factor.

    Source: Eastwood and Williams (2018), section 2.
    """
    return _concentration(to_numpy("importance", importance).astype("float64"))


def completeness(importance: Any) -> float:
    """Computes how far each factor is predicted from one latent only.

    Args:
        importance: Float array `(latents, factors)`, non-negative.

    Returns:
        Float in [0, 1]: 1 - H(importance for a factor over the latents) / log K, averaged over the factors
        weighted by their importance. 1 for a single latent.

    Source: Eastwood and Williams (2018), section 2.
    """
    return _concentration(to_numpy("importance", importance).astype("float64").T)


def sap(
    mean: Any,
    factors: Any,
    train_rows: Any = None,
    test_rows: Any = None,
    seed: int | None = 0,
    method: str = "classification",
) -> float:
    """Computes SAP, the separated attribute predictability: the gap between the two best latents per factor.

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        factors: Integer array `(rows, factors)`. Factors with a single value are dropped with a warning.
        train_rows: Int array of rows to fit on; `None` draws two thirds of the rows, at most 10,000.
        test_rows: Int array of rows to score on; `None` draws at most 5,000 of the other rows.
        seed: Int or `None`. Seed of the split and of the classifier.
        method: `"classification"` scores a latent by the test accuracy of a linear SVM on it alone.
            `"regression"` uses the squared correlation with the factor's index on the training rows (all
            rows by default); it suits factors with ordered values.

    Returns:
        Float in [0, 1], averaged over the factors. With a single latent, the second best scores 0.

    Raises:
        TypeError, ValueError: If an array is invalid, `method` is unknown, or a factor has a single value
            in the training rows.
        ImportError: If scikit-learn is not installed and the method is `"classification"`.

    Source: Kumar et al. (2018), section 3.
    """
    if method == "regression":
        scores = _squared_correlations(mean, factors, train_rows)
    elif method == "classification":
        scores = _svm_accuracies(mean, factors, train_rows, test_rows, seed)
    else:
        raise ValueError(f'`method` must be "classification" or "regression". Received: method={method!r}.')
    return float(row_gaps(scores).mean())


def explicitness(mean: Any, factors: Any, train_rows: Any = None, test_rows: Any = None, seed: int | None = 0) -> float:
    """Computes explicitness: how well logistic regression on all latents separates each value of a factor.

    Args:
        mean: Float array `(rows, latents)`: posterior means.
        factors: Integer array `(rows, factors)`. Factors with a single value are dropped with a warning.
        train_rows: Int array of rows to fit on; `None` draws two thirds of the rows, at most 10,000.
        test_rows: Int array of rows to score on; `None` draws at most 5,000 of the other rows.
        seed: Int or `None`. Seed of the split.

    Returns:
        Float: area under the ROC curve on the test rows, averaged over values and factors. 0.5 is chance
        and 1 is perfect. Values missing from the test or the training rows are left out.

    Raises:
        TypeError, ValueError: If an array is invalid, or a factor has a single value in the training rows.
        ImportError: If scikit-learn is not installed.

    Source: Ridgeway and Mozer (2018), section 3.
    """
    linear_model = optional("sklearn.linear_model", "metrics", "scikit-learn")
    metrics = optional("sklearn.metrics", "metrics", "scikit-learn")
    data = _Split(mean, factors, train_rows, test_rows, seed, "Explicitness")
    scores = []
    for train_labels, test_labels in data.labels():
        with without_sklearn_warnings():
            model = linear_model.LogisticRegression(max_iter=1000).fit(data.train - data.center, train_labels)
        probability = model.predict_proba(data.test - data.center)
        present = [(test_labels == value, column) for column, value in enumerate(model.classes_)]
        areas = [
            metrics.roc_auc_score(is_value, probability[:, column])
            for is_value, column in present
            if is_value.any() and not is_value.all()
        ]
        if areas:
            scores.append(np.mean(areas))
    if not scores:
        raise UndefinedScoreError("The test rows must have two values of some factor. Received: one value of each.")
    return float(np.mean(scores))


def split_rows(rows: int, seed: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Draws training rows (two thirds, at most 10,000) and test rows (at most 5,000 of the rest)."""
    order = np.random.default_rng(seed).permutation(rows)
    train = min(NUM_TRAIN, max(rows * 2 // 3, 1))
    return order[:train], order[train : train + NUM_TEST]


@contextlib.contextmanager
def without_sklearn_warnings() -> Iterator[None]:
    """Silences scikit-learn's warnings that a fit did not converge or that there are many classes."""
    exceptions = optional("sklearn.exceptions", "metrics", "scikit-learn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        yield


class _Split:
    """Training and test rows of codes and labels."""

    def __init__(self, mean, factors, train_rows, test_rows, seed, score):
        mean = check_mean(mean)
        self.factors = check_varied(factors, len(mean), score)
        check_seed(seed)
        if (train_rows is None) != (test_rows is None):
            raise ValueError("Give both `train_rows` and `test_rows`, or neither. Received: only one of them.")
        if train_rows is None:
            train_rows, test_rows = split_rows(len(mean), seed)
        self.train_rows = check_rows("train_rows", train_rows, len(mean))
        self.test_rows = check_rows("test_rows", test_rows, len(mean))
        self.train, self.test = mean[self.train_rows].astype("float64"), mean[self.test_rows].astype("float64")
        self.center = self.train.mean(axis=0)  # trees use float32, which would lose digits of means far from 0

    def labels(self):
        """Yields (training labels, test labels) for each factor."""
        _require_two_values(self.factors, self.train_rows)
        for factor, column in enumerate(self.factors.labels.T):
            if not np.isin(column[self.test_rows], column[self.train_rows]).any():
                raise UndefinedScoreError(
                    f"The training and test rows must share a value of {factor_name(self.factors.names, factor)}. "
                    f"Received: {self.factors.sizes[factor]} values in {len(column)} rows, none of them in both. "
                    "Leave out a factor that numbers the rows, or give more rows."
                )
        for column in self.factors.labels.T:
            yield column[self.train_rows], column[self.test_rows]


def _require_two_values(factors, rows):
    for factor, column in enumerate(factors.labels[rows].T):
        if column.min() == column.max():
            raise UndefinedScoreError(
                f"The training rows must have two values of {factor_name(factors.names, factor)}. "
                f"Received: one value in {len(rows)} rows. Leave the factor out, or give more rows."
            )


def _concentration(rows):
    """Mean over rows of 1 - entropy / maximum entropy, weighted by the sum of each row."""
    if rows.ndim != 2 or 0 in rows.shape or not rows.min() >= 0 or not np.isfinite(rows).all():
        raise ValueError(f"`importance` must be a non-negative array (latents, factors). Received: shape {rows.shape}.")
    if rows.sum() == 0:
        rows = np.ones_like(rows)
    if rows.shape[1] == 1:
        return 1.0
    p = (rows + 1e-11) / (rows + 1e-11).sum(axis=1, keepdims=True)  # a row of zeros counts as uniform
    entropy = -(p * np.log(p)).sum(axis=1) / np.log(rows.shape[1])
    return float(np.average(1 - entropy, weights=rows.sum(axis=1)))


def _svm_accuracies(mean, factors, train_rows, test_rows, seed):
    """Test accuracy of a linear SVM on each latent alone: `(factors, latents)`."""
    svm = optional("sklearn.svm", "metrics", "scikit-learn")
    data = _Split(mean, factors, train_rows, test_rows, seed, "SAP")
    scores = []
    for train_labels, test_labels in data.labels():
        models = [svm.LinearSVC(C=0.01, class_weight="balanced", random_state=seed) for _ in range(data.train.shape[1])]
        with without_sklearn_warnings():  # the published settings stop at 1000 iterations
            for latent, model in enumerate(models):
                model.fit(data.train[:, [latent]], train_labels)
        scores.append([model.score(data.test[:, [latent]], test_labels) for latent, model in enumerate(models)])
    return np.array(scores)


def _squared_correlations(mean, factors, rows):
    """Squared correlation of each factor's index with each latent: `(factors, latents)`."""
    mean = check_mean(mean).astype("float64")
    factors = check_varied(factors, len(mean), "SAP")
    rows = np.arange(len(mean)) if rows is None else check_rows("train_rows", rows, len(mean))
    _require_two_values(factors, rows)
    z, v = mean[rows], factors.labels[rows].astype("float64")
    z, v = z - z.mean(axis=0), v - v.mean(axis=0)
    variance = (z**2).mean(axis=0)
    scores = np.square(v.T @ z / len(z)) / ((v**2).mean(axis=0)[:, None] * np.where(variance > 0, variance, 1.0))
    return np.where(variance > 1e-12, scores, 0.0)
