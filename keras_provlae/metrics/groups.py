"""The scores of a metric card, in groups that are computed together, with their conventions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_provlae.metrics import binned, classifiers, contexts, fixed_factor, robustness, unsupervised
from keras_provlae.metrics.card import Score
from keras_provlae.metrics.flow import information_flow
from keras_provlae.metrics.infomec import ACTIVE_RANGE, infomec
from keras_provlae.metrics.information import ACTIVE_VARIANCE, mutual_information
from keras_provlae.metrics.mig import mig, mig_sup
from keras_provlae.metrics.posteriors import Factors, UndefinedScoreError, random_rows
from keras_provlae.metrics.rung_factors import rung_factor_map

ACTIVE_RULE = f"variance of the means > {ACTIVE_VARIANCE:g}"


class Codes(NamedTuple):
    """Inputs of the scores."""

    mean: np.ndarray
    log_var: np.ndarray
    factors: Factors  # only factors with at least two values
    rung_slices: list
    seed: int | None
    contexts: Callable | None = None  # (number of images) -> ContextEffects, where every combination has an image


class Scores(NamedTuple):
    """Output of a group: its scores, the full result if there is one, and the errors of scores left out."""

    scores: list[Score]
    result: Any = None
    skipped: dict[str, Exception] = {}  # noqa: RUF012  (a NamedTuple's default, never mutated)


class Group(NamedTuple):
    """Scores that are computed together."""

    compute: Callable  # (codes, size) -> Scores
    weight: float  # share of the time limit, relative to the other groups
    size: int | None = None  # draws, votes or rows; None: the size is fixed
    least: int = 0  # smallest useful size
    names: tuple[str, ...] = ()  # prefixes of its scores' names
    of_factors: bool = True  # whether it needs a factor with two values


def _each(*parts):
    """Computes scores from (name, function, convention, unit). One that fails does not affect the others."""
    scores, skipped = [], {}
    for name, compute, how, *unit in parts:
        try:
            scores.append(Score(name, compute(), how, *unit))
        except Exception as error:
            skipped[name] = error
    return Scores(scores, skipped=skipped)


def _information(codes, _):
    result = mutual_information(codes.mean, codes.log_var, codes.factors, factor_names=codes.factors.names)
    how = {"estimator": "quadrature of the aggregate posterior"}
    scores = [
        Score("mig", mig(result.normalized), how),
        Score("mig_sup", mig_sup(result.normalized, result.active), {**how, "active": ACTIVE_RULE}),
        Score("active_latents", float(result.active.sum()), {"estimator": "count", "active": ACTIVE_RULE}),
    ]
    return Scores(scores, result)


def _flow(codes, draws):
    flow = information_flow(codes.mean, codes.log_var, codes.rung_slices, draws=draws, seed=codes.seed)
    how = {"estimator": "exact density at sampled codes, control variates", "draws": draws}
    scores = [
        Score(f"mi_rung_{rung}", float(value), how, "nats", float(error), codes.seed)
        for rung, value, error in zip(flow.rungs, flow.mi, flow.standard_error, strict=True)
    ]
    ceiling = f"{'AT' if flow.total_at_ceiling else 'below'} the ceiling ln N = {flow.ceiling:.3f}"
    total = Score("mi_total", flow.total, how, "nats", flow.total_standard_error, codes.seed, note=ceiling)
    scores += [
        total,
        Score("i_over", flow.i_over, how, "nats", flow.i_over_standard_error, codes.seed),
    ]
    return Scores(scores, flow)


def _rung_factors(codes, draws):
    held = rung_factor_map(
        codes.mean, codes.log_var, codes.factors, codes.rung_slices, draws, codes.seed, codes.factors.names
    )
    how = {"estimator": "I(z_l; v) / H(v), exact density at sampled codes", "draws": draws}
    best = held.normalized.argmax(axis=0)
    scores = [
        Score(
            f"rung_holds_{name}",
            float(held.normalized[rung, factor]),
            how,
            standard_error=float(held.standard_error[rung, factor] / held.factor_entropy[factor]),
            seed=codes.seed,
            note=f"most in rung {held.rungs[rung]}",
        )
        for factor, (name, rung) in enumerate(zip(held.factor_names, best, strict=True))
    ]
    return Scores(scores, held)


def _contexts(codes, images):
    if codes.contexts is None:
        raise UndefinedScoreError("it needs data with an image for every combination of the factors")
    effects = codes.contexts(images)
    how = {"estimator": "Sobol indices of the means", "images": images}
    scores = [Score("flipped_factors", float(len(effects.flipped)), how, seed=codes.seed)]
    for factor, (name, latent) in enumerate(zip(effects.factor_names, effects.best, strict=True)):
        if name in codes.factors.names:
            over, same = effects.over[factor, latent], effects.agreement[factor, latent]
            number = effects.contexts[factor]
            note = f"latent {latent}; {over:.2f} over all contexts, the same way in {same:.0%} of {number}"
            scores.append(
                Score(f"context_effect_{name}", float(effects.within[factor, latent]), how, seed=codes.seed, note=note)
            )
    return Scores(scores, effects)


def _factor_vae(codes, votes):
    _require_two_factors(codes)
    value = fixed_factor.factor_vae_score(
        codes.mean, codes.factors, codes.seed, num_train=votes, num_eval=max(votes // 2, 1)
    )
    how = {
        "estimator": "majority vote",
        "votes": votes,
        "batch": fixed_factor.BATCH_SIZE,
        "active": f"standard deviation of the means >= {fixed_factor.STD_THRESHOLD:g}",
    }
    return Scores([Score("factor_vae_score", value, how, seed=codes.seed)])


def _beta_vae(codes, points):
    _require_two_factors(codes)
    value = fixed_factor.beta_vae_score(
        codes.mean, codes.factors, codes.seed, num_train=points, num_eval=max(points // 2, 1)
    )
    how = {"estimator": "logistic regression", "points": points, "batch": fixed_factor.BATCH_SIZE}
    return Scores([Score("beta_vae_score", value, how, seed=codes.seed)])


def _require_two_factors(codes):
    if len(codes.factors.sizes) == 1:
        raise UndefinedScoreError("with a single factor it is 1 by definition")


def _histograms(codes, _):
    how = {"estimator": f"histogram of the means, {binned.BINS} bins"}
    return _each(
        ("histogram_mig", lambda: binned.histogram_mig(codes.mean, codes.factors), how),
        ("latent_information", lambda: binned.latent_information(codes.mean), how, "nats"),
        ("modularity", lambda: _modularity(codes), how),
    )


def _modularity(codes):
    if len(codes.factors.sizes) == 1:
        raise UndefinedScoreError("it compares factors, but there is only one")
    return binned.modularity(codes.mean, codes.factors)


def _robustness(codes, _):
    how = {"estimator": f"{100 * robustness.QUANTILE:g} % quantile", "active": "range of the means > 0"}
    return Scores([Score("irs", robustness.irs(codes.mean, codes.factors), how)])


def _unsupervised(codes, _):
    how = {"estimator": "covariance of the means", "active": "range of the means > 0"}
    return _each(
        ("gaussian_total_correlation", lambda: unsupervised.gaussian_total_correlation(codes.mean), how, "nats"),
        ("wasserstein_correlation", lambda: unsupervised.wasserstein_correlation(codes.mean), how),
        (
            "wasserstein_correlation_normalized",
            lambda: unsupervised.wasserstein_correlation(codes.mean, normalized=True),
            {**how, "normalized": "by the sum of the variances"},
        ),
    )


def _rows(codes, size):
    """Training and test rows, at most `size` and half of it."""
    train, test = classifiers.split_rows(len(codes.mean), codes.seed)
    return train[:size], test[: max(size // 2, 1)]


def _classifier(name, score, estimator):
    """Builds the `compute` of a group with one score of a trained classifier."""

    def compute(codes, size):
        train, test = _rows(codes, size)
        value = score(codes.mean, codes.factors, train, test, codes.seed)
        return Scores([Score(name, value, {"estimator": estimator, "trained on": len(train)}, seed=codes.seed)])

    return compute


def _dci(codes, size):
    train, test = _rows(codes, size)
    result = classifiers.dci(codes.mean, codes.factors, train, test, codes.seed)
    how = {"estimator": "gradient-boosted trees", "trained on": len(train)}
    names, skipped = ["disentanglement", "completeness", "informativeness"], {}
    if len(codes.factors.sizes) == 1:
        names.remove("disentanglement")
        skipped["dci_disentanglement"] = UndefinedScoreError("with a single factor it is 1 by definition")
    scores = [Score(f"dci_{name}", getattr(result, name), how, seed=codes.seed) for name in names]
    return Scores(scores, result, skipped)


def _infomec(codes, size):
    rows = random_rows(len(codes.mean), size, codes.seed)
    result = infomec(codes.mean, codes.factors, rows, codes.seed)
    how = {
        "estimator": "nearest neighbours, logistic regression",  # British: saved cards compare by this text
        "computed on": len(rows),
        "active": f"range of the means > {ACTIVE_RANGE:g} of the widest",
    }
    names = "modularity", "explicitness", "compactness"
    scores = [Score(f"infomec_{name}", getattr(result, name), how, seed=codes.seed) for name in names]
    return Scores(scores, result)


GROUPS = {
    "mutual_information": Group(_information, 4, names=("mig", "mig_sup", "active_latents")),
    "unsupervised": Group(_unsupervised, 1, names=("gaussian_total_correlation", "wasserstein_"), of_factors=False),
    "histograms": Group(_histograms, 2, names=("histogram_mig", "modularity", "latent_information")),
    "irs": Group(_robustness, 1),
    "factor_vae_score": Group(_factor_vae, 1, 10_000, 500),
    "beta_vae_score": Group(_beta_vae, 1, 10_000, 500),
    "information_flow": Group(_flow, 8, 10_000, 200, ("mi_", "i_over"), of_factors=False),
    "rung_factor_map": Group(_rung_factors, 4, 2_000, 100, ("rung_holds_",)),
    "contexts": Group(_contexts, 4, contexts.ROWS, 1_000, ("context_effect_", "flipped_factors")),
    "explicitness": Group(
        _classifier("explicitness", classifiers.explicitness, "ROC AUC of a logistic regression"), 3, 10_000, 500
    ),
    "infomec": Group(_infomec, 4, 10_000, 500, ("infomec_",)),
    "sap": Group(_classifier("sap", classifiers.sap, "linear SVM on one latent"), 4, 10_000, 500),
    "dci": Group(_dci, 10, 10_000, 300, ("dci_",)),
}
