import numpy as np
import pytest

from keras_provlae.metrics import beta_vae_score, factor_vae_score
from tests.metrics.golden import golden, having


@pytest.mark.parametrize("name", having("factor_vae_score"))
def test_golden_factor_vae_score(name):
    case = golden(name)
    expected, tolerance = case.expected["factor_vae_score"]
    found = factor_vae_score(case.mean, case.factors, num_train=5000, num_eval=5000)
    assert found == pytest.approx(expected, abs=max(tolerance, 0.015))


def test_no_latent_above_the_threshold_scores_0():
    factors = np.stack(np.meshgrid(range(4), range(4)), axis=-1).reshape(-1, 2)
    assert factor_vae_score(factors * 0.05, factors, num_train=100, num_eval=100) == 1  # standard deviation 0.058
    with pytest.warns(UserWarning, match="the FactorVAE score is 0"):
        assert factor_vae_score(factors * 0.04, factors) == 0


def test_a_constant_latent_does_not_win_the_votes():
    """0 / 0 would win every vote: this case would score 0.2."""
    case = golden("inactive_dims")
    assert case.mean.var(axis=0).min() == 0
    for threshold in 0.05, 0.0:
        assert factor_vae_score(case.mean, case.factors, 0, 500, 500, std_threshold=threshold) > 0.99


def test_votes_count_the_latents_that_are_left():
    factors = np.stack(np.meshgrid(range(4), range(4), range(4)), axis=-1).reshape(-1, 3)
    mean = np.concatenate([np.zeros((64, 2)), factors[:, [2, 0, 1]]], axis=1)
    assert factor_vae_score(mean, factors, num_train=300, num_eval=300) == 1


def test_a_code_of_one_of_two_factors_scores_half():
    factors = np.stack(np.meshgrid(range(8), range(8)), axis=-1).reshape(-1, 2)
    assert factor_vae_score(factors[:, :1] * 1.0, factors) == pytest.approx(0.5, abs=0.03)


def test_values_are_drawn_by_frequency():
    """99 of 100 rows have the value 0, for which latent 1 is constant and latent 0 is not."""
    v = np.zeros(1000, int)
    v[::100] = 1
    w = np.arange(1000) % 2
    mean = np.stack([w + 0.3 * v, np.where(v == 0, 0.0, np.random.default_rng(0).standard_normal(1000))], axis=1)
    assert factor_vae_score(mean, np.stack([v, w], axis=1), num_train=1000, num_eval=2000) > 0.97


def test_the_seed_determines_the_score():
    case = golden("rotated_full")
    one, same, other = (factor_vae_score(case.mean, case.factors, seed, 500, 500) for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_evaluation_votes_are_not_training_votes():
    """A single training vote predicts itself perfectly and another vote only by chance."""
    factors = np.stack(np.meshgrid(range(6), range(6), range(6)), axis=-1).reshape(-1, 3)
    mean = np.random.default_rng(0).standard_normal((216, 3))
    scores = [factor_vae_score(mean, factors, seed, num_train=1, num_eval=1) for seed in range(30)]
    assert 0.1 < np.mean(scores) < 0.7


@pytest.mark.parametrize("name", having("beta_vae_score"))
def test_golden_beta_vae_score(name):
    case = golden(name)
    found = beta_vae_score(case.mean, case.factors, num_train=2000, num_eval=2000)
    assert found == pytest.approx(case.expected["beta_vae_score"], abs=0.04)  # about 3 standard errors


def test_a_single_factor_scores_1():
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
    with pytest.raises(ValueError, match="to draw two factors"):
        beta_vae_score(codes, factors, num_train=1)


def test_the_error_for_missing_scikit_learn_names_the_extra(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ImportError, match=r'scikit-learn: pip install "keras_provlae\[metrics\]"'):
        beta_vae_score(np.eye(4), np.arange(4))
