import math
from dataclasses import replace

import numpy as np
import pytest

from keras_provlae.metrics import map_stability, mutual_information, rung_factor_map
from tests.metrics.golden import golden


@pytest.fixture
def grid():
    """Three factors: two spread over both latents of rung 2, one in rung 1."""
    factors = np.stack(np.meshgrid(range(3), range(4), range(5), indexing="ij"), axis=-1).reshape(-1, 3)
    a, b, c = 10.0 * factors.T
    mean = np.stack([a + b, a - b, c, np.zeros(60)], axis=1)
    return mean, np.full((60, 4), -4.0), factors


def test_a_rung_holds_factors_that_no_single_latent_holds(grid):
    mean, log_var, factors = grid
    held = rung_factor_map(mean, log_var, factors, [(2, slice(0, 2)), (1, slice(2, 4))], draws=600)
    np.testing.assert_allclose(held.mi, [[math.log(3), math.log(4), 0], [0, 0, math.log(5)]], atol=1e-5)
    np.testing.assert_allclose(held.normalized, [[1, 1, 0], [0, 0, 1]], atol=1e-5)
    assert held.holders == {"factor 0": 2, "factor 1": 2, "factor 2": 1}
    single = mutual_information(mean, log_var, factors).normalized
    assert single[:2, :2].max() < 0.9


def test_a_rung_with_one_latent_is_integrated(grid):
    mean, log_var, factors = grid
    held = rung_factor_map(mean, log_var, factors, [(i + 1, slice(i, i + 1)) for i in (3, 2, 1, 0)], draws=2)
    np.testing.assert_allclose(held.mi[::-1].T, mutual_information(mean, log_var, factors).mi, atol=1e-9)
    assert not held.standard_error.any()


def test_sampled_values_agree_with_the_integral_within_their_error():
    """In a rung of two latents, the second without information, the rung has the information of the first."""
    case = golden("rotated_pair")
    rng = np.random.default_rng(0)
    mean = np.stack([case.mean[:, 0], rng.standard_normal(len(case.mean)) * 1e-9], axis=1)
    log_var = np.stack([case.log_var[:, 0], np.zeros(len(case.mean))], axis=1)
    exact = mutual_information(case.mean[:, :1], case.log_var[:, :1], case.factors).mi[:, 0]
    maps = [rung_factor_map(mean, log_var, case.factors, [(1, slice(0, 2))], 800, seed) for seed in range(3)]
    error = np.sqrt(np.mean([m.standard_error[0] ** 2 for m in maps], axis=0) / len(maps))
    assert (np.abs(np.mean([m.mi[0] for m in maps], axis=0) - exact) < 4 * error + 1e-5).all()
    assert error.max() < 0.03


def test_the_standard_error_is_the_spread_over_seeds():
    rng = np.random.default_rng(2)
    factors = np.arange(120)[:, None] % 3
    mean, log_var = factors + rng.standard_normal((120, 2)), rng.uniform(-2, 0, (120, 2))
    maps = [rung_factor_map(mean, log_var, factors, [(1, slice(0, 2))], 240, seed) for seed in range(50)]
    spread, error = np.std([m.mi[0, 0] for m in maps]), np.mean([m.standard_error[0, 0] for m in maps])
    assert 0.6 < spread / error < 1.6
    again = rung_factor_map(mean, log_var, factors, [(1, slice(0, 2))], 240, seed=7)
    assert again.mi[0, 0] == maps[7].mi[0, 0]


def test_names_and_table(grid):
    held = rung_factor_map(*grid, [(2, slice(0, 2)), (1, slice(2, 4))], 60, factor_names=["hue", "scale", "shape"])
    lines = str(held).splitlines()
    assert lines[1].split() == ["hue", "scale", "shape"]
    assert lines[2].split() == ["rung", "2", "1.000", "1.000", "0.000"]
    assert held.holders["shape"] == 1


def test_a_factor_below_a_tenth_in_every_rung_has_no_holder(grid):
    mean, log_var, factors = grid
    held = rung_factor_map(0 * mean, log_var, factors, [(2, slice(0, 2)), (1, slice(2, 4))], 60)
    assert set(held.holders.values()) == {None}
    some = replace(held, mi=held.factor_entropy * np.array([[0.11, 0.09, 0.0], [0.05, 0.0, 0.3]]))
    assert list(some.holders.values()) == [2, None, 1]


def test_stability_of_equal_disjoint_and_half_shared_maps(grid):
    held = rung_factor_map(*grid, [(2, slice(0, 2)), (1, slice(2, 4))], 60)
    one = replace(held, mi=held.factor_entropy * np.array([[1, 1, 0], [0, 0, 0.5]]))
    swapped = replace(held, mi=one.mi[::-1])
    moved = replace(held, mi=held.factor_entropy * np.array([[1, 0, 0], [0, 1, 0.5]]))
    same = map_stability([one, one, one])
    assert (same.score, same.same_holder) == (1, 1)
    assert same.per_factor.tolist() == [1, 1, 1]
    apart = map_stability([one, swapped])
    assert (apart.score, apart.same_holder) == (0, 0)
    part = map_stability([one, moved])
    assert part.score == pytest.approx(1.5 / 3.5)
    assert part.per_factor.tolist() == [1, 0, 1]
    assert part.same_holder == pytest.approx(2 / 3)


def test_pairs_without_information_about_a_factor_do_not_count(grid):
    held = rung_factor_map(*grid, [(2, slice(0, 2)), (1, slice(2, 4))], 60)
    full, partial = (replace(held, mi=held.factor_entropy * np.array([[1, a, 0], [0, 0, 0]])) for a in (1.0, 0.0))
    stability = map_stability([full, partial, partial])
    np.testing.assert_array_equal(stability.per_factor, [1, 0, np.nan])
    assert stability.same_holder == pytest.approx(
        3 / 5
    )  # all three pairs agree on factor 0, neither of two on factor 1


def test_stability_of_empty_maps_is_undefined(grid):
    mean, log_var, factors = grid
    empty = rung_factor_map(0 * mean, log_var, factors, [(2, slice(0, 2)), (1, slice(2, 4))], 60)
    empty = replace(empty, mi=0 * empty.mi)
    with pytest.warns(UserWarning, match="undefined"):
        assert math.isnan(map_stability([empty, empty]).score)


def test_stability_needs_comparable_maps(grid):
    held = rung_factor_map(*grid, [(2, slice(0, 2)), (1, slice(2, 4))], 60)
    with pytest.raises(ValueError, match="at least two maps"):
        map_stability([held])
    with pytest.raises(TypeError, match="must be a list of RungFactorMap. Received: ..RungFactorMap., .int.."):
        map_stability([held, 3])
    with pytest.raises(ValueError, match=r"same rungs, factors, rows and draws.*100 draws"):
        map_stability([held, replace(held, draws=100)])


def test_bad_names(grid):
    with pytest.raises(ValueError, match="must name 3 factors"):
        rung_factor_map(*grid, [(1, slice(0, 4))], 60, factor_names=["hue"])
