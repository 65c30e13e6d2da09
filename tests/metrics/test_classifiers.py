import numpy as np
import pytest

from keras_provlae.metrics import completeness, dci, disentanglement, explicitness, sap
from tests.metrics.golden import golden, having


def test_dci_is_computed_from_the_importances_of_boosted_trees():
    from sklearn.ensemble import GradientBoostingClassifier

    case = golden("nonlinear_mix")
    factors = case.factors[:, 1:] % 2
    order = np.random.default_rng(0).permutation(60)
    train, test = order[:40], order[40:]
    found = dci(case.mean, factors, train, test, seed=3)
    mean = case.mean.astype("float64") - case.mean[train].astype("float64").mean(axis=0)
    for factor, labels in enumerate(factors.T):
        trees = GradientBoostingClassifier(random_state=3).fit(mean[train], labels[train])
        np.testing.assert_allclose(found.importance[:, factor], trees.feature_importances_, atol=1e-12)
    assert found.disentanglement == disentanglement(found.importance)
    assert found.completeness == completeness(found.importance) != found.disentanglement


def test_informativeness_is_the_accuracy_on_test_rows():
    rng = np.random.default_rng(0)
    factors = np.stack([np.arange(90) % 2, rng.integers(2, size=90)], axis=1)
    mean = np.stack([factors[:, 0] * 1.0, rng.standard_normal(90)], axis=1)
    assert 0.6 < dci(mean, factors).informativeness < 0.9  # the second factor cannot be predicted on unseen rows


def test_negative_importances_are_clipped(monkeypatch):
    class Trees:
        feature_importances_ = np.array([1.0, -1e-18])

        def __init__(self, random_state):
            self.fit, self.score = lambda mean, labels: self, lambda mean, labels: 1.0

    monkeypatch.setattr("sklearn.ensemble.GradientBoostingClassifier", Trees)
    found = dci(np.eye(20)[:, :2], np.arange(20)[:, None] % 2, np.arange(10), np.arange(10, 20))
    assert found.importance.tolist() == [[1.0], [0.0]]
    assert found.completeness == pytest.approx(1)


@pytest.mark.parametrize("name", having("dci"))
def test_golden_disentanglement_and_completeness(name):
    expected = golden(name).expected["dci"]
    importance = np.array(expected["importance"])
    assert [disentanglement(importance), completeness(importance)] == pytest.approx(expected["scores"], abs=1e-9)


def test_disentanglement_and_completeness_of_known_matrices():
    assert disentanglement(np.eye(3)) == pytest.approx(1)
    assert completeness(np.eye(3)) == pytest.approx(1)
    merged = np.array([[1.0, 1.0], [0.0, 0.0]])  # rows are latents: one latent holds both factors
    assert disentanglement(merged) == pytest.approx(0, abs=1e-6)
    assert completeness(merged) == pytest.approx(1)
    assert disentanglement(merged.T) == pytest.approx(1)
    assert completeness(merged.T) == pytest.approx(0, abs=1e-6)
    assert disentanglement(np.zeros((2, 2))) == pytest.approx(0, abs=1e-6)
    assert disentanglement(np.ones((3, 1))) == 1


@pytest.mark.parametrize("name", having("sap"))
def test_golden_sap(name):
    case = golden(name)
    found = sap(case.mean, case.factors, case.train, case.test)
    assert found == pytest.approx(case.expected["sap"], abs=0.02)


@pytest.mark.parametrize("name", having("sap_regression"))
def test_golden_sap_by_regression(name):
    case = golden(name)
    found = sap(case.mean, case.factors, method="regression")
    assert found == pytest.approx(case.expected["sap_regression"], abs=1e-6)


@pytest.mark.parametrize("name", having("explicitness"))
def test_golden_explicitness(name):
    case = golden(name)
    found = explicitness(case.mean, case.factors, case.train, case.test)
    assert found == pytest.approx(case.expected["explicitness"], abs=2e-3)


def test_explicitness_leaves_out_values_missing_from_the_test_rows():
    factors = np.arange(30) % 3
    mean = np.eye(3)[factors]
    train, test = np.arange(24), np.flatnonzero(factors[24:] < 2) + 24
    assert explicitness(mean, factors, train, test) == 1


def test_the_split_depends_on_the_seed():
    rng = np.random.default_rng(0)
    mean, factors = rng.standard_normal((90, 2)), rng.integers(2, size=(90, 1))
    scores = [sap(mean, factors, seed=seed) for seed in (1, 1, 2, 3)]
    assert scores[0] == scores[1]
    assert len(set(scores)) > 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_rows": np.arange(5)}, "both `train_rows` and `test_rows`"),
        ({"train_rows": np.array([], int), "test_rows": np.arange(5)}, r"row numbers 0 .. 8, at least 1"),
        ({"train_rows": np.array([9]), "test_rows": np.arange(5)}, "row numbers 0 .. 8"),
        ({"train_rows": np.ones(9, bool), "test_rows": np.arange(5)}, "row numbers 0 .. 8"),
        (
            {"train_rows": np.array([0, 3, 6]), "test_rows": np.arange(5)},
            "training rows must have two values of factor 0. Received: one value in 3 rows",
        ),
        ({"method": "guess"}, '"classification" or "regression"'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        sap(np.eye(9), np.arange(9) % 3, **settings)


@pytest.mark.parametrize("importance", [[[-1.0, 2.0]], [[np.nan, 1.0]], [1.0, 2.0]])
def test_bad_importance(importance):
    with pytest.raises(ValueError, match="must be a non-negative array"):
        disentanglement(importance)


def test_constant_factors_are_left_out_and_means_may_be_far_from_0():
    factors = np.stack(np.meshgrid(range(3), range(2), [0]), axis=-1).reshape(-1, 3).repeat(8, axis=0)
    mean = factors[:, :2] + 1e8
    for score in dci, explicitness, sap:
        with pytest.warns(UserWarning, match=r"leaves out the factors \[2\]"):
            found = score(mean, factors)
        if score is not sap:
            assert np.min(found[0] if score is dci else found) > 0.99
