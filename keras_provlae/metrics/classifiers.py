"""Scores by classifiers that read the factors from the codes. They need scikit-learn (the extra `metrics`)."""

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
    importance: np.ndarray  # float64 (latents, factors): importance of each latent in predicting each factor


def dci(mean: Any, factors: Any, train_rows: Any = None, test_rows: Any = None, seed: int | None = 0) -> DCIScores:
    """Disentanglement, completeness, informativeness: from gradient-boosted trees that predict each factor.

    Args:
        mean: Float array `(rows, latents)`: means of the posteriors.
        factors: Integer array `(rows, factors)`. Factors with one value are left out, with a warning.
        train_rows: Int array of the rows to fit on; `None` draws at most 10,000, and at most two thirds.
        test_rows: Int array of the rows to score on; `None` draws at most 5,000 of the others.
        seed: Int or `None`. Seed of the split and of the trees.

    Returns:
        A `DCIScores`.

    Raises:
        TypeError, ValueError: If an array is unfit, or a factor has one value among the training rows.
        ImportError: If scikit-learn is not installed.

    Source: Eastwood and Williams (2018), section 2.
    """
    ensemble = optional("sklearn.ensemble", "metrics", "scikit-learn")
    data = _Split(mean, factors, train_rows, test_rows, seed, "DCI")

    def boost(labels):
        train_labels, test_labels = labels
        model = ensemble.GradientBoostingClassifier(random_state=seed).fit(data.train - data.center, train_labels)
        return model.feature_importances_, model.score(data.test - data.center, test_labels)

    with without_remarks(), ThreadPoolExecutor(available_cores()) as pool:
        importance, accuracy = zip(*pool.map(boost, list(data.labels())), strict=True)
    importance = np.maximum(np.stack(importance, axis=1), 0.0)  # trees round some of them to -1e-18
    return DCIScores(disentanglement(importance), completeness(importance), float(np.mean(accuracy)), importance)


def disentanglement(importance: Any) -> float:
    """Whether each latent is important for one factor only: float in [0, 1].

    Args:
        importance: Float array `(latents, factors)`, none negative.

    Returns:
        1 - H(importance of a latent, over the factors) in units of log F, averaged over the latents in
        proportion to their importance. 1 for a single factor.

    Source: Eastwood and Williams (2018), section 2.
    """
    return _concentration(to_numpy("importance", importance).astype("float64"))


def completeness(importance: Any) -> float:
    """Whether each factor is predicted from one latent only: float in [0, 1].

    Args:
        importance: Float array `(latents, factors)`, none negative.

    Returns:
        1 - H(importance for a factor, over the latents) in units of log K, averaged over the factors in
        proportion to their importance. 1 for a single latent.

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
    """Separated attribute predictability: the best latent's ability to predict a factor, less the second best's.

    Args:
        mean: Float array `(rows, latents)`: means of the posteriors.
        factors: Integer array `(rows, factors)`. Factors with one value are left out, with a warning.
        train_rows: Int array of the rows to fit on; `None` draws at most 10,000, and at most two thirds.
        test_rows: Int array of the rows to score on; `None` draws at most 5,000 of the others.
        seed: Int or `None`. Seed of the split and of the classifier.
        method: `"classification"`: accuracy of a linear support vector machine on one latent.
            `"regression"`: squared correlation with the factor's number, on the training rows (all
            rows by default), for factors whose values are ordered.

    Returns:
        Float in [0, 1], averaged over the factors. The second best of a single latent is 0.

    Raises:
        TypeError, ValueError: If an array is unfit, `method` unknown, or a factor has one value
            among the training rows.
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
    """Explicitness: how well a logistic regression on all latents tells each value of a factor from the others.

    Args:
        mean: Float array `(rows, latents)`: means of the posteriors.
        factors: Integer array `(rows, factors)`. Factors with one value are left out, with a warning.
        train_rows: Int array of the rows to fit on; `None` draws at most 10,000, and at most two thirds.
        test_rows: Int array of the rows to score on; `None` draws at most 5,000 of the others.
        seed: Int or `None`. Seed of the split.

    Returns:
        Float: area under the ROC curve on the test rows, averaged over values and factors. 0.5 is chance
        and 1 is perfect. Values that the test or the training rows lack are left out.

    Raises:
        TypeError, ValueError: If an array is unfit, or a factor has one value among the training rows.
        ImportError: If scikit-learn is not installed.

    Source: Ridgeway and Mozer (2018), section 3.
    """
    linear_model = optional("sklearn.linear_model", "metrics", "scikit-learn")
    metrics = optional("sklearn.metrics", "metrics", "scikit-learn")
    data = _Split(mean, factors, train_rows, test_rows, seed, "Explicitness")
    scores = []
    for train_labels, test_labels in data.labels():
        with without_remarks():
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
    """Rows to train on and other rows to test on: at most 10,000 and 5,000, two to one where there are fewer."""
    order = np.random.default_rng(seed).permutation(rows)
    train = min(NUM_TRAIN, max(rows * 2 // 3, 1))
    return order[:train], order[train : train + NUM_TEST]


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Hides scikit-learn's remarks that a fit stopped at its limit, and that there are many classes."""
    exceptions = optional("sklearn.exceptions", "metrics", "scikit-learn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        yield


class _Split:
    """Codes and labels to fit on and to score on."""

    def __init__(self, mean, factors, train_rows, test_rows, seed, score):
        mean = check_mean(mean)
        self.factors = check_varied(factors, len(mean), score)
        check_seed(seed)
        if (train_rows is None) != (test_rows is None):
            raise ValueError("Give both `train_rows` and `test_rows`, or neither. Received: one of them.")
        if train_rows is None:
            train_rows, test_rows = split_rows(len(mean), seed)
        self.train_rows = check_rows("train_rows", train_rows, len(mean))
        self.test_rows = check_rows("test_rows", test_rows, len(mean))
        self.train, self.test = mean[self.train_rows].astype("float64"), mean[self.test_rows].astype("float64")
        self.center = self.train.mean(axis=0)  # trees are float32: means far from 0 would lose their digits

    def labels(self):
        """(labels of the training rows, of the test rows) of every factor."""
        _require_two_values(self.factors, self.train_rows)
        for factor, column in enumerate(self.factors.labels.T):
            if not np.isin(column[self.test_rows], column[self.train_rows]).any():
                raise UndefinedScoreError(
                    f"A value of {factor_name(self.factors.names, factor)} must be among the training and the test "
                    f"rows. Received: none of {self.factors.sizes[factor]} values in {len(column)} rows is in both. "
                    "Leave out a factor that numbers the rows, or give more rows."
                )
        for column in self.factors.labels.T:
            yield column[self.train_rows], column[self.test_rows]


def _require_two_values(factors, rows):
    for factor, column in enumerate(factors.labels[rows].T):
        if column.min() == column.max():
            raise UndefinedScoreError(
                f"Two values of {factor_name(factors.names, factor)} must be among the training rows. "
                f"Received: one value in {len(rows)} rows. Leave the factor out, or give more rows."
            )


def _concentration(rows):
    """Weighted mean over rows of 1 - entropy of the row in units of its maximum."""
    if rows.ndim != 2 or 0 in rows.shape or not rows.min() >= 0 or not np.isfinite(rows).all():
        raise ValueError(f"`importance` must be (latents, factors), none negative. Received: shape {rows.shape}.")
    if rows.sum() == 0:
        rows = np.ones_like(rows)
    if rows.shape[1] == 1:
        return 1.0
    p = (rows + 1e-11) / (rows + 1e-11).sum(axis=1, keepdims=True)  # rows of zeros count as even
    entropy = -(p * np.log(p)).sum(axis=1) / np.log(rows.shape[1])
    return float(np.average(1 - entropy, weights=rows.sum(axis=1)))


def _svm_accuracies(mean, factors, train_rows, test_rows, seed):
    """Accuracy of a classifier on each latent alone: `(factors, latents)`."""
    svm = optional("sklearn.svm", "metrics", "scikit-learn")
    data = _Split(mean, factors, train_rows, test_rows, seed, "SAP")
    scores = []
    for train_labels, test_labels in data.labels():
        models = [svm.LinearSVC(C=0.01, class_weight="balanced", random_state=seed) for _ in range(data.train.shape[1])]
        with without_remarks():  # the published settings stop at 1000
            for latent, model in enumerate(models):
                model.fit(data.train[:, [latent]], train_labels)
        scores.append([model.score(data.test[:, [latent]], test_labels) for latent, model in enumerate(models)])
    return np.array(scores)


def _squared_correlations(mean, factors, rows):
    mean = check_mean(mean).astype("float64")
    factors = check_varied(factors, len(mean), "SAP")
    rows = np.arange(len(mean)) if rows is None else check_rows("train_rows", rows, len(mean))
    _require_two_values(factors, rows)
    z, v = mean[rows], factors.labels[rows].astype("float64")
    z, v = z - z.mean(axis=0), v - v.mean(axis=0)
    variance = (z**2).mean(axis=0)
    scores = np.square(v.T @ z / len(z)) / ((v**2).mean(axis=0)[:, None] * np.where(variance > 0, variance, 1.0))
    return np.where(variance > 1e-12, scores, 0.0)
