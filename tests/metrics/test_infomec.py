import importlib
import math

import numpy as np
import pytest

from keras_provlae.metrics.infomec import infomec
from keras_provlae.metrics.posteriors import random_rows
from tests.metrics.golden import golden


@pytest.fixture
def grid():
    """Every combination of two factors 40 times: more often than the estimator has neighbors."""
    factors = np.stack(np.meshgrid(range(4), range(5), range(40), indexing="ij"), axis=-1).reshape(-1, 3)
    return factors[:, :2], 0.05 * np.random.default_rng(0).standard_normal((800, 3))


def test_one_latent_per_factor(grid):
    factors, noise = grid
    scores = infomec(factors + noise[:, :2], factors)
    assert np.diag(scores.normalized) == pytest.approx([1, 1], abs=0.05)
    assert scores.modularity > 0.95
    assert scores.compactness > 0.95
    assert scores.explicitness > 0.99
    np.testing.assert_allclose(scores.explicitness_nats, [math.log(4), math.log(5)], atol=0.02)


def test_merging_lowers_modularity_and_splitting_lowers_compactness(grid):
    factors, noise = grid
    merged = infomec(np.stack([5 * factors[:, 0] + factors[:, 1], 0 * noise[:, 0]], axis=1) + noise[:, :2], factors)
    split = infomec(factors[:, [0, 0, 1]] + noise, factors)
    assert merged.modularity < 0.3
    assert merged.active.tolist() == [True, False]
    assert merged.compactness == 1  # only one latent is active
    assert split.modularity > 0.95
    assert split.compactness == pytest.approx(0.625, abs=0.05)  # half of one factor and all of the other


def test_the_seed_determines_the_rows(grid, monkeypatch):
    factors, noise = grid
    monkeypatch.setattr(importlib.import_module("keras_provlae.metrics.infomec"), "MOST_ROWS", 200)
    mean = factors + 6 * noise[:, :2]
    one, other = (infomec(mean, factors, seed=seed).normalized for seed in (1, 2))
    same = infomec(mean, factors, random_rows(800, 200, seed=1), seed=1).normalized
    assert (one == same).all()
    assert (one != other).any()


def test_latents_with_a_range_above_a_twentieth_of_the_widest_are_active(grid):
    factors, _ = grid
    mean = np.stack([factors[:, 1] * 1.0, factors[:, 0] * 4 * 0.06 / 3, factors[:, 0] * 4 * 0.04 / 3], axis=1)
    assert infomec(mean, factors).active.tolist() == [True, True, False]


def test_noise_has_almost_no_information(grid):
    factors, noise = grid
    scores = infomec(noise, factors)
    assert scores.explicitness < 0.1
    assert scores.normalized.max() < 0.2


def test_scores_are_in_range():
    case = golden("modular_sum")
    scores = infomec(case.mean, case.factors)
    for value in scores[:3]:
        assert -1e-9 <= value <= 1 + 1e-9
    assert (scores.explicitness_nats <= np.array(case.expected["h_v"]) + 1e-9).all()


def test_constant_latents_score_0(grid):
    with pytest.warns(UserWarning, match="are 0"):
        assert infomec(np.ones((800, 2)), grid[0])[:3] == (0, 0, 0)


def test_bad_factors(grid):
    factors, noise = grid
    with pytest.raises(ValueError, match="InfoMEC needs at least 2 factors"):
        infomec(noise, factors[:, 0])
    with pytest.raises(ValueError, match=r"2 factors, 1 of them with two values"):
        infomec(noise, factors * [1, 0])
    for rows in [0, 900] * 10, [0.5] * 20, [1]:
        with pytest.raises(ValueError, match=r"`rows` must be row numbers 0 .. 799, at least 12"):
            infomec(noise, factors, rows=rows)
