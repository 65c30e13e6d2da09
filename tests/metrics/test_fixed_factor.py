import numpy as np
import pytest

from keras_provlae.metrics import beta_vae_score, factor_vae_score


def test_golden_factor_vae_score(case):
    expected = case.expected["factor_vae"]
    settings = {"num_train": 5000, "num_eval": 5000}
    if case.expected["exact"]["active_units"] == []:
        with pytest.warns(UserWarning, match="the FactorVAE score is 0"):
            assert factor_vae_score(case.mean, case.factors) == 0
        return
    scores = [factor_vae_score(case.mean, case.factors, seed, **settings) for seed in range(3)]
    if "threshold_0.05" in expected:
        sampled = expected["threshold_0.05"]
        assert np.mean(scores) == pytest.approx(sampled["eval"], abs=sampled["tol"])
    else:
        assert scores == pytest.approx([expected["limit"]] * 3)


def test_a_latent_without_variance_does_not_win(named_case):
    """0 / 0 would win every vote: the score of this case would be 0.2."""
    case = named_case("inactive_dims")
    assert case.mean.var(axis=0).min() == 0
    for threshold in 0.05, 0.0:
        assert factor_vae_score(case.mean, case.factors, 0, 2000, 2000, std_threshold=threshold) > 0.99


def test_columns_of_votes_are_those_of_the_latents_that_are_left():
    factors = np.stack(np.meshgrid(range(4), range(4), range(4)), axis=-1).reshape(-1, 3)
    mean = np.concatenate([np.zeros((64, 2)), factors[:, [2, 0, 1]]], axis=1)
    assert factor_vae_score(mean, factors, num_train=300, num_eval=300) == 1


def test_factors_are_told_by_the_smallest_relative_variance():
    """The score of a code that ignores one of two factors: its votes go where chance sends them."""
    factors = np.stack(np.meshgrid(range(8), range(8)), axis=-1).reshape(-1, 2)
    assert factor_vae_score(factors[:, :1] * 1.0, factors) == pytest.approx(0.5, abs=0.03)


def test_values_are_drawn_as_often_as_they_occur():
    """99 of 100 rows have the value 0, within which latent 1 is constant and latent 0 is not."""
    v = np.zeros(1000, int)
    v[::100] = 1
    w = np.arange(1000) % 2
    mean = np.stack([w + 0.3 * v, np.where(v == 0, 0.0, np.random.default_rng(0).standard_normal(1000))], axis=1)
    score = factor_vae_score(mean, np.stack([v, w], axis=1), num_train=2000, num_eval=4000)
    assert score > 0.97


def test_the_seed_decides(named_case):
    case = named_case("rotated_full")
    one, same, other = (factor_vae_score(case.mean, case.factors, seed, 500, 500) for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_votes_are_scored_on_others_than_they_were_made_of():
    """One training vote is always right of itself; of new ones it is right as often as chance."""
    factors = np.stack(np.meshgrid(range(6), range(6), range(6)), axis=-1).reshape(-1, 3)
    mean = np.random.default_rng(0).standard_normal((216, 3))
    scores = [factor_vae_score(mean, factors, seed, num_train=1, num_eval=300) for seed in range(5)]
    assert np.mean(scores) < 0.5


def test_golden_beta_vae_score(case):
    expected = case.expected["disentanglement_lib"]["beta_vae"]
    if expected is None:
        pytest.skip("no reference value for this case")
    scores = [beta_vae_score(case.mean, case.factors, seed, num_train=2000, num_eval=2000) for seed in range(2)]
    assert np.mean(scores) == pytest.approx(expected["eval"], abs=0.035)  # two standard errors of each side


def test_one_factor_is_always_told():
    assert beta_vae_score(np.zeros((5, 2)), np.arange(5)) == 1.0


def test_constant_factors_are_left_out():
    factors = np.stack(np.meshgrid(range(4), range(4), [5]), axis=-1).reshape(-1, 3)
    for score in factor_vae_score, beta_vae_score:
        with pytest.warns(UserWarning, match=r"leaves out the factors \[2\]"):
            assert score(factors[:, :2] * 1.0, factors, num_train=300, num_eval=300) == 1
    with pytest.raises(ValueError, match="at least 1 factor with two values"):
        factor_vae_score(np.eye(16), factors[:, 2:])


def test_bad_numbers():
    codes, factors = np.eye(4), np.stack([np.arange(4), np.arange(4) % 2], axis=1)
    with pytest.raises(ValueError, match="`batch_size` must be at least 2. Received: batch_size=1"):
        factor_vae_score(codes, factors, batch_size=1)
    with pytest.raises(ValueError, match="`num_train` must be at least 1"):
        factor_vae_score(codes, factors, num_train=0)
    with pytest.raises(TypeError, match="`num_eval` must be an integer"):
        factor_vae_score(codes, factors, num_eval=2.5)
    with pytest.raises(TypeError, match="`std_threshold` must be a number"):
        factor_vae_score(codes, factors, std_threshold="a")
    with pytest.raises(ValueError, match="meet two factors"):
        beta_vae_score(codes, factors, num_train=1)


def test_scikit_learn_is_named_where_it_is_missing(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ImportError, match=r'scikit-learn: pip install "keras_provlae\[metrics\]"'):
        beta_vae_score(np.eye(4), np.arange(4))
