"""UDR against a direct reading of its definition, and of arrays with known answers."""

import sys

import numpy as np
import pytest
from scipy import stats

from keras_provlae.metrics import UDRScores, udr
from keras_provlae.metrics.udr import centered_ranks

PRECISE = -4.0  # log variance; its KL alone is 1.5 nats


def posterior(mean, log_var=PRECISE):
    return mean, np.broadcast_to(np.asarray(log_var, "float64"), mean.shape)


def three_models(rows=60):
    """Models of three, three and two informative latents; the second has one more that matches the prior."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((rows, 3))
    first = base + 0.1 * rng.standard_normal((rows, 3))
    second = np.concatenate([base @ rng.standard_normal((3, 3)), 0.05 * base[:, :1]], axis=1)
    third = np.round(2 * base[:, :2]) * [3.0, -1.0] + 7.0  # ties, another scale, far from 0
    return [posterior(first), posterior(second, [PRECISE] * 3 + [0.0]), posterior(third)]


def lasso(first, target, alpha):
    """Weights of the smallest |target - first w|^2 / 2 rows + alpha |w|_1, one coordinate at a time."""
    weights = np.zeros(first.shape[1])
    for _ in range(300):
        for a in range(len(weights)):
            rest = target - first @ weights + first[:, a] * weights[a]
            fit = first[:, a] @ rest / len(first)
            weights[a] = np.sign(fit) * max(abs(fit) - alpha, 0.0) / np.mean(first[:, a] ** 2)
    return weights


def direct_reading(models, informative, method, alpha=0.1):
    """The definition, term by term."""
    codes = [stats.zscore(mean[:, kept]) for (mean, _), kept in zip(models, informative, strict=True)]
    pairs = {}
    for i, first in enumerate(codes):
        for j, second in enumerate(codes):
            if i == j:
                continue
            strength = {}
            for b in range(second.shape[1]):
                weights = lasso(first, second[:, b], alpha) / (1 - alpha) if method == "lasso" else None
                for a in range(first.shape[1]):
                    rank = stats.spearmanr(first[:, a], second[:, b]).statistic
                    strength[a, b] = abs(rank if weights is None else weights[a])
            total = 0.0
            for b in range(second.shape[1]):
                column = [strength[a, b] for a in range(first.shape[1])]
                total += max(column) ** 2 / sum(column)
            for a in range(first.shape[1]):
                row = [strength[a, b] for b in range(second.shape[1])]
                total += max(row) ** 2 / sum(row) if sum(row) else 0.0
            pairs[i, j] = total / (first.shape[1] + second.shape[1])
    return pairs


@pytest.mark.parametrize("method", ["lasso", "spearman"])
def test_the_scores_are_those_of_a_direct_reading(method):
    models = three_models()
    informative = [[True] * 3, [True] * 3 + [False], [True] * 2]
    found = udr(models, method)
    assert [kept.tolist() for kept in found.informative] == informative
    expected = direct_reading(models, informative, method)
    for pair, value in expected.items():
        assert found.pairwise[pair] == pytest.approx(value, abs=1e-4), pair
    medians = [np.median([value for (_, j), value in expected.items() if j == model]) for model in range(3)]
    np.testing.assert_allclose(found.scores, medians, atol=1e-4)
    directed = method == "lasso"  # [i, j] predicts the latents of j from those of i
    assert (found.pairwise[0, 1] == pytest.approx(found.pairwise[1, 0], abs=1e-3)) != directed
    assert found.rows == 60
    assert np.isnan(np.diag(found.pairwise)).all()


GRID = np.stack(np.meshgrid(range(5), range(5), range(5)), axis=-1).reshape(-1, 3).astype("float64")  # uncorrelated
COPY = (GRID * [-1.0, 5.0, 0.01])[:, [2, 0, 1]] + 3.0
TURNED = GRID @ [[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]  # two latents of three, by 45 degrees


@pytest.mark.parametrize("method", ["lasso", "spearman"])
def test_copies_up_to_order_sign_and_scale_score_1_and_rotations_do_not(method):
    found = udr([posterior(GRID), posterior(COPY), posterior(GRID[:, ::-1])], method)
    assert found.scores == pytest.approx([1, 1, 1], abs=1e-5)
    turned = udr([posterior(GRID), posterior(TURNED)], method)
    correlation = abs(stats.spearmanr(GRID[:, 0], TURNED[:, 0]).statistic)
    weight = (np.sqrt(0.5) - 0.1) / 0.9 if method == "lasso" else correlation
    assert turned.scores == pytest.approx([(4 * weight / 2 + 2) / 6] * 2, abs=1e-5)


def test_copies_of_correlated_latents_score_1_by_lasso():
    mean = np.random.default_rng(0).standard_normal((200, 4)) @ (np.eye(4) + 0.2)
    for alpha in 0.02, 0.1, 0.5:
        assert udr([posterior(mean), posterior(-mean[:, ::-1])], alpha=alpha).scores == pytest.approx([1, 1], abs=1e-4)


@pytest.mark.parametrize("method", ["lasso", "spearman"])
def test_an_uninformative_latent_is_left_out_of_both_sums(method):
    noisy = np.concatenate([GRID, GRID[:, :1] / 100], axis=1)  # a faint copy of the first latent
    models = [posterior(GRID), posterior(noisy, [PRECISE] * 3 + [0.0])]
    assert udr(models, method).scores == pytest.approx([1, 1])
    # of seven sums six are 1, and the one that sees the first latent twice is 1/2, if both copies are equally strong
    counted = udr(models, method="spearman", least_kl=0.0)
    assert counted.scores == pytest.approx([(6 + 0.5) / 7] * 2)
    assert counted.informative[1].tolist() == [True] * 4


def test_informative_latents_that_do_not_vary_resemble_no_other():
    constant = np.concatenate([GRID[:, :1], np.full((125, 1), 0.3)], axis=1)
    for method in "lasso", "spearman":
        assert udr([posterior(constant), posterior(constant)], method).scores == pytest.approx([0.5, 0.5])


def test_a_collapsed_model_is_last_and_its_pairs_are_0():
    collapsed = posterior(np.zeros((125, 3)), 0.0)
    found = udr([collapsed, posterior(GRID), posterior(COPY), posterior(TURNED)])
    assert found.scores[0] == 0
    assert found.order[-1] == 0
    assert not found.pairwise[0, 1:].any()
    assert udr([collapsed, collapsed]).scores.tolist() == [0, 0]


def test_the_score_is_the_median_of_the_pairs():
    found = udr([posterior(GRID), posterior(COPY), posterior(GRID), posterior(TURNED)])
    assert found.scores[:3] == pytest.approx([1, 1, 1])
    assert found.scores[3] == pytest.approx(found.pairwise[0, 3])
    assert found.order.tolist()[3] == 3


def test_scores_print_as_a_table_with_the_best_first():
    pairwise = np.array([[np.nan, 0.25, 0.5], [0.25, np.nan, 1.0], [0.75, 1.0, np.nan]])
    scores = UDRScores(np.nanmedian(pairwise, axis=0), pairwise, (np.arange(3) > 0,) * 3, "lasso", 0.1, 0.01, 40)
    assert str(scores).splitlines() == [
        "UDR by lasso with penalty 0.1, 3 models, 40 rows",
        "model     UDR  lowest and highest pair  informative latents (of)",
        "2       0.750            0.500   1.000          2 (3)",
        "1       0.625            0.250   1.000          2 (3)",
        "0       0.500            0.250   0.750          2 (3)",
    ]


def test_equal_numbers_share_their_mean_rank():
    values = np.random.default_rng(0).integers(6, size=40) / 3
    np.testing.assert_allclose(centered_ranks(values), stats.rankdata(values) - 20.5)


def test_only_lasso_needs_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    assert udr([posterior(GRID), posterior(COPY)], method="spearman").alpha is None
    with pytest.raises(ImportError, match=r"keras_provlae\[metrics\]"):
        udr([posterior(GRID), posterior(COPY)])


@pytest.mark.parametrize(
    ("models", "settings", "error", "message"),
    [
        ([posterior(GRID)], {}, ValueError, "at least two models to compare. Received: 1"),
        ([], {}, ValueError, "at least two models"),
        ([posterior(GRID), posterior(GRID[:9])], {}, ValueError, r"the same images.*Received: \[125, 9\] rows"),
        (posterior(GRID), {}, TypeError, "pairs .mean, log_var., one per model. Received: ndarray for model 0"),
        ({"a": posterior(GRID)}, {}, TypeError, "must be a list of pairs"),
        ([posterior(GRID), (GRID, GRID[:, :2])], {}, ValueError, "Model 1 of `posteriors`: .* the same shape"),
        ([posterior(GRID), posterior(GRID * np.nan)], {}, ValueError, "Model 1 of `posteriors`: .* must be finite"),
        ([posterior(GRID)] * 2, {"method": "pearson"}, ValueError, '"lasso" or "spearman". Received: method=\'pearson'),
        ([posterior(GRID)] * 2, {"alpha": 0}, ValueError, "`alpha` must be above 0"),
        ([posterior(GRID)] * 2, {"alpha": 1.0}, ValueError, r"`alpha` must be in \[0, 0.99\]"),
        ([posterior(GRID)] * 2, {"least_kl": -1}, ValueError, "`least_kl`"),
    ],
)
def test_bad_models_and_settings(models, settings, error, message):
    with pytest.raises(error, match=message):
        udr(models, **settings)
