import math

import numpy as np
import pytest

from keras_provlae.metrics import information_flow
from keras_provlae.metrics.kernel import log_aggregate_density
from tests.metrics.golden import golden


@pytest.mark.parametrize(
    ("name", "draws"),
    [("wide_sigma", 2000), ("incomplete_grid", 2000), ("modular_sum", 4000), ("nonlinear_mix", 8000)],
)
def test_golden_flow(name, draws):
    case = golden(name)
    flow = information_flow(case.mean, case.log_var, case.rung_slices, draws=draws)
    values = [*flow.mi, flow.total]
    errors = [*flow.standard_error, flow.total_standard_error]
    for value, error, (expected, standard_error) in zip(values, errors, case.expected["mi_rungs"], strict=True):
        assert abs(value - expected) < 4 * math.hypot(error, standard_error) + 1e-4
        assert error < 1 / math.sqrt(draws)
    assert flow.ceiling == pytest.approx(math.log(len(case.mean)))
    assert flow.i_over == pytest.approx(sum(flow.mi) - flow.total)


def test_rungs_with_one_latent_are_not_sampled():
    case = golden("sigma_code")
    flow = information_flow(case.mean, case.log_var, case.rung_slices, draws=50)
    np.testing.assert_allclose(flow.mi, [mi for mi, _ in case.expected["mi_rungs"][:-1]], atol=5e-5)
    assert not flow.standard_error.any()
    assert flow.total_standard_error > 0


def test_i_over_of_independent_and_of_equal_rungs():
    rng = np.random.default_rng(0)
    groups = np.stack(np.meshgrid(range(5), range(4), range(25)), axis=-1).reshape(-1, 3)
    mean = 30.0 * groups[:, :2] + 0.0 * rng.standard_normal((500, 2))
    log_var = np.zeros((500, 2))
    apart = information_flow(mean, log_var, [(2, slice(0, 1)), (1, slice(1, 2))], draws=500)
    np.testing.assert_allclose(apart.mi, [math.log(5), math.log(4)], atol=1e-5)
    assert apart.total == pytest.approx(math.log(20), abs=1e-5)
    assert apart.i_over == pytest.approx(0, abs=1e-5)
    copies = information_flow(mean[:, [0, 0]], log_var, [(2, slice(0, 1)), (1, slice(1, 2))], draws=500)
    assert copies.i_over == pytest.approx(math.log(5), abs=1e-5)


def test_values_at_the_ceiling_are_marked():
    mean = np.arange(64)[:, None] * np.array([[50.0, 0.01]])
    flow = information_flow(mean, np.zeros((64, 2)), [(2, slice(0, 1)), (1, slice(1, 2))], draws=200)
    assert flow.ceiling == pytest.approx(math.log(64))
    assert flow.at_ceiling.tolist() == [True, False]
    assert flow.total_at_ceiling
    text = str(flow).splitlines()
    assert "ceiling ln N = 4.159" in text[0]
    assert ["at the ceiling" in line for line in text[1:]] == [True, False, True, False]


def test_the_standard_error_is_the_spread_over_seeds():
    rng = np.random.default_rng(5)
    mean, log_var = rng.standard_normal((100, 4)), rng.uniform(-3, -1, (100, 4))
    slices = [(2, slice(0, 2)), (1, slice(2, 4))]
    flows = [information_flow(mean, log_var, slices, draws=500, seed=seed) for seed in range(50)]
    for values, errors in (
        ([f.total for f in flows], [f.total_standard_error for f in flows]),
        ([f.mi[0] for f in flows], [f.standard_error[0] for f in flows]),
        ([f.i_over for f in flows], [f.i_over_standard_error for f in flows]),
    ):
        assert 0.6 < np.std(values) / np.mean(errors) < 1.6
    reference = information_flow(mean, log_var, slices, draws=30_000, seed=99)
    mean_error = np.mean([f.total_standard_error for f in flows]) / math.sqrt(50)
    assert np.mean([f.total for f in flows]) == pytest.approx(reference.total, abs=4 * mean_error + 1e-3)


def test_control_variates_reduce_the_noise():
    rng = np.random.default_rng(5)
    mean, log_var = rng.standard_normal((300, 3)), rng.uniform(-1, 0, (300, 3))
    flow = information_flow(mean, log_var, [(1, slice(0, 3))], draws=2000)
    codes = mean + np.exp(0.5 * log_var) * rng.standard_normal(mean.shape)
    plain = log_aggregate_density(codes, mean, log_var, [slice(0, 3)])[0].std() / math.sqrt(2000)
    assert flow.standard_error[0] < 0.25 * plain


def test_few_draws_use_no_control_variates():
    rng = np.random.default_rng(0)
    mean, log_var = rng.standard_normal((100, 6)), np.full((100, 6), -2.0)
    flow = information_flow(mean, log_var, [(1, slice(0, 6))], draws=20)
    assert flow.mi[0] == pytest.approx(
        information_flow(mean, log_var, [(1, slice(0, 6))], draws=3000).mi[0], abs=4 * flow.standard_error[0]
    )
    assert flow.standard_error[0] > 0


def test_the_total_of_one_rung_is_that_rung():
    rng = np.random.default_rng(0)
    flow = information_flow(rng.standard_normal((50, 3)), np.full((50, 3), -2.0), {1: slice(0, 3)}, draws=100)
    assert flow.total == flow.mi[0]
    assert flow.i_over == 0
    assert flow.i_over_standard_error == 0


@pytest.mark.parametrize("smallest", [1e-2, 1e-7])
def test_log_density_against_direct_summation(smallest):
    """Blocks, threads, groups and both precisions against one float64 sum."""
    rng = np.random.default_rng(1)
    mean = 100 + rng.standard_normal((5000, 3))
    log_var = 2 * np.log(rng.uniform(smallest, 1, (5000, 3)))
    codes = mean[:70] + np.exp(0.5 * log_var[:70]) * rng.standard_normal((70, 3))
    difference = (codes[:, None] - mean) / np.exp(0.5 * log_var)
    terms = -0.5 * (difference**2 + log_var + math.log(2 * math.pi))
    for threads in 1, 3:
        found = log_aggregate_density(codes, mean, log_var, [slice(0, 1), slice(1, 3)], total=True, threads=threads)
        for row, columns in zip(found, [slice(0, 1), slice(1, 3), slice(0, 3)], strict=True):
            exponents = terms[:, :, columns].sum(axis=2)
            top = exponents.max(axis=1)
            expected = top + np.log(np.exp(exponents - top[:, None]).mean(axis=1))
            np.testing.assert_allclose(row, expected, atol=2e-3)


def test_log_density_of_tiny_sigmas():
    rng = np.random.default_rng(0)
    mean = rng.standard_normal((3000, 2))
    log_var = np.full((3000, 2), 2 * math.log(1e-6))
    codes = mean[:50] + 1e-6 * rng.standard_normal((50, 2))
    own = -0.5 * (((codes - mean[:50]) / 1e-6) ** 2).sum(axis=1) - math.log(2 * math.pi * 1e-12) - math.log(3000)
    np.testing.assert_allclose(log_aggregate_density(codes, mean, log_var, [slice(0, 2)])[0], own, atol=1e-6)


@pytest.mark.parametrize(
    "slices",
    [
        [],
        [(1, slice(0, 0))],
        [(2, slice(0, 2)), (1, slice(1, 4))],
        [(1, slice(0, 9))],
        [(1, slice(0, 4, 2))],
        [(1, [0, 1])],
        [slice(0, 4)],
        None,
        5,
    ],
)
def test_bad_slices(slices):
    with pytest.raises(ValueError, match="`rung_slices` must"):
        information_flow(np.zeros((9, 4)), np.zeros((9, 4)) - 1, slices)


def test_bad_draws():
    codes = np.zeros((9, 4)), np.zeros((9, 4)) - 1, [(1, slice(0, 4))]
    with pytest.raises(ValueError, match="`draws` must be at least 2. Received: draws=1"):
        information_flow(*codes, draws=1)
    with pytest.raises(TypeError, match="`draws` must be an integer"):
        information_flow(*codes, draws=10.0)
    with pytest.raises(ValueError, match="`threads` must be at least 1"):
        information_flow(*codes, threads=0)
    with pytest.raises(TypeError, match="`seed` must be an integer"):
        information_flow(*codes, seed="a")
