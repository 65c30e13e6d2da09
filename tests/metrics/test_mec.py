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
    with pytest.raises(ValueError, match="needs at least two"):
        infomec(noise, factors[:, 0])
    with pytest.raises(ValueError, match=r"one value of factors \[1\]"):
        infomec(noise, factors * [1, 0])
