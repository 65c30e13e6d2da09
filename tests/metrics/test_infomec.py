import math

import numpy as np
import pytest

from keras_provlae.metrics import infomec


@pytest.fixture
def grid():
    """40 rows of a kind, more than the neighbours that the estimator looks at."""
    factors = np.stack(np.meshgrid(range(4), range(5), range(40), indexing="ij"), axis=-1).reshape(
        -1, 3
    )  # more rows of a kind than neighbours
    return factors[:, :2], 0.05 * np.random.default_rng(0).standard_normal((800, 3))


def test_one_latent_for_each_factor(grid):
    factors, noise = grid
    scores = infomec(factors + noise[:, :2], factors)
    assert scores.modularity > 0.95
    assert scores.compactness > 0.95
    assert scores.explicitness > 0.99
    np.testing.assert_allclose(scores.explicitness_nats, [math.log(4), math.log(5)], atol=0.02)


def test_merged_factors_cost_modularity_and_split_ones_compactness(grid):
    factors, noise = grid
    merged = infomec(np.stack([5 * factors[:, 0] + factors[:, 1], 0 * noise[:, 0]], axis=1) + noise[:, :2], factors)
    split = infomec(factors[:, [0, 0, 1]] + noise, factors)
    assert merged.modularity < 0.3
    assert merged.active.tolist() == [True, False]
    assert merged.compactness == 1  # a single active latent
    assert split.modularity > 0.95
    assert split.compactness == pytest.approx(0.625, abs=0.05)  # a half of one factor, all of the other


def test_information_is_a_share_of_the_entropy_and_the_seed_decides(grid):
    factors, noise = grid
    scores = infomec(factors + noise[:, :2], factors)
    assert np.diag(scores.normalized) == pytest.approx([1, 1], abs=0.05)
    big = np.repeat(factors, 20, axis=0)
    codes = big + 0.3 * np.random.default_rng(1).standard_normal(big.shape)
    one, same, other = (infomec(codes, big, seed=seed).normalized for seed in (1, 1, 2))  # of 10,000 of 16,000 rows
    assert (one == same).all()
    assert (one != other).any()


def test_active_is_a_range_above_a_twentieth_of_the_widest(grid):
    factors, _ = grid
    mean = np.stack([factors[:, 1] * 1.0, factors[:, 0] * 4 * 0.06 / 3, factors[:, 0] * 4 * 0.04 / 3], axis=1)
    assert infomec(mean, factors).active.tolist() == [True, True, False]


def test_noise_has_next_to_no_information(grid):
    factors, noise = grid
    scores = infomec(noise, factors)
    assert scores.explicitness < 0.1
    assert scores.normalized.max() < 0.2


def test_golden_cases_are_in_range(case):
    scores = infomec(case.mean, case.factors)
    for value in scores[:3]:
        assert -1e-9 <= value <= 1 + 1e-9
    # what a linear classifier gets out of the codes is at most what there is
    entropies = case.expected["exact"]["h_v"]
    assert (scores.explicitness_nats <= np.array(entropies) + 1e-9).all()


def test_latents_that_never_move(grid):
    with pytest.warns(UserWarning, match="are 0"):
        assert infomec(np.ones((800, 2)), grid[0])[:3] == (0, 0, 0)


def test_bad_factors(grid):
    factors, noise = grid
    with pytest.raises(ValueError, match="InfoMEC needs at least 2 factors"):
        infomec(noise, factors[:, 0])
    with pytest.raises(ValueError, match=r"of which 1 have two values"):
        infomec(noise, factors * [1, 0])
    for rows in [0, 900] * 10, [0.5] * 20, [1]:
        with pytest.raises(ValueError, match=r"`rows` must be row numbers 0 .. 799, at least 12"):
            infomec(noise, factors, rows=rows)
