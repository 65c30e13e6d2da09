import numpy as np
import pytest

from keras_provlae.metrics import completeness, dci, disentanglement, explicitness, sap


def _expected(case, name):
    expected = case.expected["disentanglement_lib"][name]
    if expected is None:
        pytest.skip("no reference value for this case")
    return expected


def test_golden_dci(case):
    expected = _expected(case, "dci")
    found = dci(case.mean, case.factors, case.train[:900], case.test)
    assert found.disentanglement == pytest.approx(expected["disentanglement"], abs=expected["tol"])
    assert found.completeness == pytest.approx(expected["completeness"], abs=expected["tol"])
    assert found.informativeness == pytest.approx(expected["informativeness_test"], abs=expected["tol"])
    assert found.importance.shape == np.shape(expected["importance"])


def test_importance_that_trees_round_below_zero_is_zero(monkeypatch):
    class Trees:
        feature_importances_ = np.array([1.0, -1e-18])

        def __init__(self, random_state):
            self.fit, self.score = lambda mean, labels: self, lambda mean, labels: 1.0

    monkeypatch.setattr("sklearn.ensemble.GradientBoostingClassifier", Trees)
    found = dci(np.eye(20)[:, :2], np.arange(20)[:, None] % 2, np.arange(10), np.arange(10, 20))
    assert found.importance.tolist() == [[1.0], [0.0]]
    assert found.completeness == pytest.approx(1)


def test_golden_dci_formulas(case):
    expected = _expected(case, "dci")
    importance = np.array(expected["importance"])
    assert disentanglement(importance) == pytest.approx(expected["disentanglement_of_importance"], abs=1e-9)
    assert completeness(importance) == pytest.approx(expected["completeness_of_importance"], abs=1e-9)


def test_disentanglement_and_completeness_of_known_matrices():
    assert disentanglement(np.eye(3)) == pytest.approx(1)
    assert completeness(np.eye(3)) == pytest.approx(1)
    merged = np.array([[1.0, 1.0], [0.0, 0.0]])  # rows latents: one latent holds both factors
    assert disentanglement(merged) == pytest.approx(0, abs=1e-6)
    assert completeness(merged) == pytest.approx(1)
    assert disentanglement(merged.T) == pytest.approx(1)
    assert completeness(merged.T) == pytest.approx(0, abs=1e-6)
    assert disentanglement(np.zeros((2, 2))) == pytest.approx(0, abs=1e-6)
    assert disentanglement(np.ones((3, 1))) == 1


def test_golden_sap(case):
    expected = _expected(case, "sap_split")
    found = sap(case.mean, case.factors, case.train, case.test)
    assert found == pytest.approx(expected["value"], abs=expected["tol"])


def test_golden_sap_by_regression(case):
    expected = case.expected["disentanglement_lib"]["deterministic_on_all_rows"]
    if "sap_continuous_full" not in expected:
        pytest.skip("no reference value for this case")
    found = sap(case.mean, case.factors, method="regression")
    assert found == pytest.approx(expected["sap_continuous_full"], abs=1e-6)


def test_golden_explicitness(case):
    expected = _expected(case, "explicitness_split")
    assert explicitness(case.mean, case.factors, case.train, case.test) == pytest.approx(expected["test"], abs=2e-3)


def test_explicitness_leaves_out_values_that_the_test_rows_lack():
    factors = np.arange(30) % 3
    mean = np.eye(3)[factors]
    train, test = np.arange(24), np.flatnonzero(factors[24:] < 2) + 24
    assert explicitness(mean, factors, train, test) == 1


def test_rows_are_split_without_overlap_and_by_the_seed():
    rng = np.random.default_rng(0)
    mean, factors = rng.standard_normal((90, 2)), rng.integers(2, size=(90, 1))
    assert sap(mean, factors, seed=1) == sap(mean, factors, seed=1)
    assert len({sap(mean, factors, seed=seed) for seed in range(6)}) > 1
    assert dci(mean, factors).informativeness < 0.8  # noise cannot be predicted on rows that were not seen


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_rows": np.arange(5)}, "both `train_rows` and `test_rows`"),
        ({"train_rows": np.array([], int), "test_rows": np.arange(5)}, r"row numbers 0 .. 8, at least 1"),
        ({"train_rows": np.array([9]), "test_rows": np.arange(5)}, "row numbers 0 .. 8"),
        ({"train_rows": np.ones(9, bool), "test_rows": np.arange(5)}, "row numbers 0 .. 8"),
        (
            {"train_rows": np.array([0, 3, 6]), "test_rows": np.arange(5)},
            "Two values of factor 0 must be among the training",
        ),
        ({"method": "guess"}, '"classification" or "regression"'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        sap(np.eye(9), np.arange(9) % 3, **settings)


@pytest.mark.parametrize("importance", [[[-1.0, 2.0]], [[np.nan, 1.0]], [1.0, 2.0]])
def test_bad_importance(importance):
    with pytest.raises(ValueError, match="none negative"):
        disentanglement(importance)


def test_constant_factors_are_left_out_and_means_may_be_far_from_0():
    factors = np.stack(np.meshgrid(range(3), range(4), [0]), axis=-1).reshape(-1, 3).repeat(5, axis=0)
    mean = factors[:, :2] + 1e8
    for score in dci, explicitness, sap:
        with pytest.warns(UserWarning, match=r"leaves out the factors \[2\]"):
            found = score(mean, factors)
        if score is not sap:
            assert np.min(found[0] if score is dci else found) > 0.99
