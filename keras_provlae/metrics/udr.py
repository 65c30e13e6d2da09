"""UDR, unsupervised disentanglement ranking: which of several trainings to keep, without labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_provlae.checks import check_number, non_negative, optional
from keras_provlae.metrics.classifiers import without_sklearn_warnings
from keras_provlae.metrics.posteriors import check_posterior, varied_latents

METHODS = ("lasso", "spearman")
INFORMATIVE_KL = 0.01  # nats; Duan et al. (2020)
PENALTY = 0.1  # of the L1 norm, as in the released program
LARGEST_PENALTY = 0.99  # a penalty of 1 leaves no weight


@dataclass(frozen=True, eq=False)
class UDRScores:
    """UDR of several models, and the similarities of pairs behind it.

    Attributes:
        scores: Float64 `(models,)`, in the order given: the median similarity of a model with the others.
        pairwise: Float64 `(models, models)`. `[i, j]` is the similarity when the latents of model j are predicted
            from those of model i; NaN on the diagonal. Symmetric for Spearman, nearly so for Lasso.
        informative: One bool array `(latents,)` per model: latents whose KL exceeds `least_kl`. The others are left
            out.
        method: `"lasso"` or `"spearman"`.
        alpha: Float. L1 penalty of the Lasso; `None` for Spearman.
        least_kl: Float, nats.
        rows: Number of images.
    """

    scores: np.ndarray
    pairwise: np.ndarray
    informative: tuple[np.ndarray, ...]
    method: str
    alpha: float | None
    least_kl: float
    rows: int

    @property
    def order(self) -> np.ndarray:
        """Models from the highest score to the lowest: int `(models,)`."""
        return np.argsort(-self.scores, kind="stable")

    def __str__(self) -> str:
        penalty = "" if self.alpha is None else f" with penalty {self.alpha:g}"
        lines = [f"UDR by {self.method}{penalty}, {len(self.scores)} models, {self.rows} rows"]
        lines.append("model     UDR  lowest and highest pair  informative latents (of)")
        for model in self.order:
            pairs = np.delete(self.pairwise[:, model], model)
            active = self.informative[model]
            values = f"{self.scores[model]:8.3f}{pairs.min():17.3f}{pairs.max():8.3f}"
            lines.append(f"{model:<5}{values}{active.sum():11} ({len(active)})")
        return "\n".join(lines)


def udr(
    posteriors: Iterable[Sequence[Any]],
    method: str = "lasso",
    alpha: float = PENALTY,
    least_kl: float = INFORMATIVE_KL,
) -> UDRScores:
    """Scores each of several trainings by how much its latents resemble those of the others, without labels.

    The idea: models that disentangle find the same latents, up to their order and sign, and models that entangle
    each mix them in another way. With R(a, b), the importance of latent a of model i for latent b of model j,

        UDR_ij = (sum_b max_a R(a, b)^2 / sum_a R(a, b) + sum_a max_b R(a, b)^2 / sum_b R(a, b)) / (d_i + d_j)

    over the d_i and d_j informative latents, and the score of model j is the median of UDR_ij over the other models i.

    Args:
        posteriors: List of `(mean, log_var)`, one pair per model: float arrays `(rows, latents)`, as returned by
            `model.encode`. Every model must have encoded the same images in the same order; the numbers of latents
            may differ. In the paper, the models differ only in the seed.
        method: `"lasso"`: R holds the absolute weights of linear regressions with an L1 penalty that predict each
            latent of j from all latents of i. `"spearman"`: R holds absolute rank correlations.
        alpha: Float in (0, 0.99]: the L1 penalty of the Lasso. Latents are scaled to standard deviation 1 first.
        least_kl: Float >= 0, nats. A latent is informative if its KL from the prior, averaged over the rows, is
            larger.

    Returns:
        A `UDRScores`; `print` shows it as a table, best model first. Scores are at least 0. Copies up to order, sign
        and scale score 1; by Spearman only if their latents are uncorrelated. Lasso can exceed 1 where a model's
        latents are nearly linearly dependent. A pair in which a model has no informative latent has similarity 0.

    Raises:
        TypeError, ValueError: If an array or a setting is invalid, there are fewer than two models, or they have
            different numbers of rows.
        ImportError: If scikit-learn is not installed and the method is `"lasso"`.

    Example:
        >>> mean = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> log_var = np.full((4, 2), -4.0)
        >>> rotated = mean @ np.array([[1.0, 1.0], [1.0, -1.0]])
        >>> found = udr([(mean, log_var), (-mean[:, ::-1], log_var), (rotated, log_var)], method="spearman")
        >>> found.scores.round(2), found.pairwise[0].round(2)
        (array([0.68, 0.68, 0.35]), array([ nan, 1.  , 0.35]))

    Source: Duan et al. (2020), "Unsupervised Model Selection for Variational Disentangled Representation Learning",
    and the authors' program in disentanglement_lib. As in the program, latents are standardized, the penalty is 0.1
    and uninformative latents are left out of R itself, not only of the outer sums. As in the paper, both sums share
    the divisor d_i + d_j; the program averages two means, which is the same for equally many informative latents.
    Specific to this package: Lasso weights are divided by 1 - alpha, to which the penalty shrinks those of a perfect
    copy. This scales all scores alike, so that copies score 1, not 0.9; ranks stay.
    """
    linear_model = check_method(method)
    check_number("alpha", alpha, 0.0, LARGEST_PENALTY)
    if alpha == 0:
        raise ValueError("`alpha` must be above 0: without a penalty, the regression is no Lasso. Received: alpha=0.")
    least_kl = non_negative("least_kl", least_kl)
    checked = _checked(posteriors)
    informative = tuple(kl_per_latent(mean, log_var) > least_kl for mean, log_var in checked)
    codes = [_standardized(mean[:, kept], method) for (mean, _), kept in zip(checked, informative, strict=True)]

    def importance(first, second):
        if linear_model is None:
            return np.abs(first.T @ second) / len(first)
        with without_sklearn_warnings():
            fitted = linear_model.Lasso(alpha=alpha, tol=1e-6, max_iter=10_000, precompute=True).fit(first, second)
        return np.abs(fitted.coef_).reshape(second.shape[1], first.shape[1]).T / (1 - alpha)

    pairwise = np.full((len(codes), len(codes)), np.nan)
    for i, first in enumerate(codes):
        for j, second in enumerate(codes):
            if i != j:
                pairwise[i, j] = _similarity(importance(first, second)) if first.size and second.size else 0.0
    rows = len(checked[0][0])
    scores = np.nanmedian(pairwise, axis=0)
    return UDRScores(scores, pairwise, informative, method, alpha if method == "lasso" else None, least_kl, rows)


def check_method(method: str) -> Any:
    """Checks the method of `udr`. Returns scikit-learn's linear models if it needs them, else `None`.

    Raises:
        ValueError: If the method is unknown.
        ImportError: If it is `"lasso"` and scikit-learn is not installed.
    """
    if method not in METHODS:
        raise ValueError(f'`method` must be "lasso" or "spearman". Received: method={method!r}.')
    return optional("sklearn.linear_model", "metrics", "scikit-learn") if method == "lasso" else None


def kl_per_latent(mean: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """Returns the KL of each latent from the prior, averaged over the rows: float64 `(latents,)`, nats."""
    mean, log_var = mean.astype("float64"), log_var.astype("float64")
    return 0.5 * (np.exp(log_var) + mean**2 - 1.0 - log_var).mean(axis=0)


def centered_ranks(values: Any) -> np.ndarray:
    """Ranks numbers, minus the mean rank; equal numbers share the mean of their ranks.

    Example:
        >>> centered_ranks([0.5, 0.1, 0.5, 0.9])
        array([ 0. , -1.5,  0. ,  1.5])
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = counts.cumsum() - (counts - 1) / 2
    return (ranks - (len(inverse) + 1) / 2)[inverse]


def _checked(posteriors):
    """Checks the posteriors of all models; an error names the model."""
    if not isinstance(posteriors, Iterable) or isinstance(posteriors, dict | str):
        raise TypeError(f"`posteriors` must be a list of pairs (mean, log_var). Received: {posteriors!r}.")
    checked = []
    for number, pair in enumerate(posteriors):
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise TypeError(
                "`posteriors` must be a list of pairs (mean, log_var), one per model. "
                f"Received: {type(pair).__name__} for model {number}."
            )
        try:
            checked.append(check_posterior(*pair))
        except (TypeError, ValueError) as error:
            raise type(error)(f"Model {number} of `posteriors`: {error}") from error
    if len(checked) < 2:
        raise ValueError(f"`posteriors` must have at least two models to compare. Received: {len(checked)}.")
    rows = [len(mean) for mean, _ in checked]
    if len(set(rows)) > 1:
        raise ValueError(f"All models must have encoded the same images, row by row. Received: {rows} rows.")
    return checked


def _standardized(mean, method):
    """Scales the means, or their ranks, to mean 0 and standard deviation 1; latents that do not vary become 0."""
    varied = varied_latents(mean)
    values = mean.astype("float64") - mean.mean(axis=0, dtype="float64")
    if method == "spearman" and mean.size:
        values = np.stack([centered_ranks(column) for column in mean.T], axis=1)
    return np.where(varied, values, 0.0) / np.where(varied, values.std(axis=0), 1.0)


def _similarity(importance):
    """UDR_ij from R, `(latents of i, latents of j)`."""
    return (_strengths(importance).sum() + _strengths(importance.T).sum()) / sum(importance.shape)


def _strengths(importance):
    """max_a R(a, b)^2 / sum_a R(a, b) of each column b; 0 for a column of zeros."""
    total = importance.sum(axis=0)
    return importance.max(axis=0) ** 2 / np.where(total > 0, total, 1.0)
