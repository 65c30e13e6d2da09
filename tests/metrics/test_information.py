import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_provlae.metrics import active_latents, mutual_information
from keras_provlae.metrics.mig import mig, mig_sup
from tests.metrics.golden import golden, having


def brute_force_entropy(mean, sigma, weights=None):
    """Entropy of a mixture of Gaussians by direct summation in float64."""
    weights = np.full(len(mean), 1 / len(mean)) if weights is None else weights / weights.sum()
    step = sigma.min() / 8
    grid = np.arange((mean - 9 * sigma).min(), (mean + 9 * sigma).max() + step, step)
    density = np.zeros(len(grid))
    for mu, s, w in zip(mean, sigma, weights, strict=True):
        density += w * np.exp(-0.5 * ((grid - mu) / s) ** 2) / (s * math.sqrt(2 * math.pi))
    return -np.sum(np.where(density > 0, density * np.log(np.where(density > 0, density, 1)), 0)) * step


def brute_force_information(mean, log_var, factors, weights=None):
    weights = np.ones(len(mean)) if weights is None else weights
    sigma = np.exp(0.5 * log_var.astype("float64"))
    result = np.zeros((factors.shape[1], mean.shape[1]))
    for j in range(mean.shape[1]):
        total = brute_force_entropy(mean[:, j].astype("float64"), sigma[:, j], weights)
        for k in range(factors.shape[1]):
            result[k, j] = total
            for value in np.unique(factors[:, k]):
                rows = (factors[:, k] == value) & (weights > 0)
                if rows.any():
                    share = weights[rows].sum() / weights.sum()
                    result[k, j] -= share * brute_force_entropy(
                        mean[rows, j].astype("float64"), sigma[rows, j], weights[rows]
                    )
    return result


@pytest.fixture
def random_codes():
    rng = np.random.default_rng(3)
    factors = np.stack([rng.integers(3, size=60), rng.integers(5, size=60)], axis=1)
    mean = factors @ rng.standard_normal((2, 3)) + 0.3 * rng.standard_normal((60, 3))
    return mean.astype("float32"), rng.uniform(-5, 0, (60, 3)).astype("float32"), factors


# === Independent references ===


def test_golden_information(case):
    result = mutual_information(case.mean, case.log_var, case.factors)
    expected = case.expected
    np.testing.assert_allclose(result.mi, expected["mi"], atol=5e-5, rtol=0)
    np.testing.assert_allclose(result.latent_entropy, expected["h_z"], atol=5e-5, rtol=0)
    np.testing.assert_allclose(result.factor_entropy, expected["h_v"], atol=1e-9, rtol=0)
    assert np.flatnonzero(result.active).tolist() == expected["active"]
    assert not result.standard_error.any()
    assert mig(result.normalized) == pytest.approx(expected["mig"], abs=1e-4)
    assert mig_sup(result.normalized, result.active) == pytest.approx(expected["mig_sup"], abs=1e-4)


@pytest.mark.parametrize("name", having("mi_closed_form"))
def test_golden_closed_forms(name):
    case = golden(name)
    result = mutual_information(case.mean, case.log_var, case.factors)
    np.testing.assert_allclose(result.mi, case.expected["mi_closed_form"], atol=1e-6)


def test_against_brute_force(random_codes):
    mean, log_var, factors = random_codes
    result = mutual_information(mean, log_var, factors)
    np.testing.assert_allclose(result.mi, brute_force_information(mean, log_var, factors), atol=2e-5)


def test_weights_against_brute_force(random_codes):
    mean, log_var, factors = random_codes
    weights = np.random.default_rng(0).uniform(0, 2, len(mean))
    weights[:9] = 0
    result = mutual_information(mean, log_var, factors, weights=weights)
    np.testing.assert_allclose(result.mi, brute_force_information(mean, log_var, factors, weights), atol=2e-5)


def test_integer_weights_equal_repeated_rows(random_codes):
    mean, log_var, factors = random_codes
    weights = np.arange(len(mean)) % 4
    weighted = mutual_information(mean, log_var, factors, weights=weights)
    repeated = mutual_information(*(np.repeat(array, weights, axis=0) for array in random_codes))
    np.testing.assert_allclose(weighted.mi, repeated.mi, atol=1e-5)
    np.testing.assert_allclose(weighted.factor_entropy, repeated.factor_entropy, atol=1e-12)


def test_information_is_in_nats_and_factors_are_rows():
    # square but not symmetric: latent 0 holds both factors, latent 1 none
    factors = np.stack(np.meshgrid(range(4), range(3), indexing="ij"), axis=-1).reshape(-1, 2)
    mean = np.stack([factors[:, 0] * 3 + factors[:, 1], np.zeros(12)], axis=1) * 5.0
    result = mutual_information(mean, np.full(mean.shape, -4.0), factors)
    np.testing.assert_allclose(result.mi, [[math.log(4), 0], [math.log(3), 0]], atol=1e-6)
    np.testing.assert_allclose(result.normalized, [[1, 0], [1, 0]], atol=1e-6)
    assert mig(result.normalized) == pytest.approx(1, abs=1e-6)
    assert mig_sup(result.normalized, result.active) == pytest.approx(0, abs=1e-6)


def test_a_gaussian_of_gaussians():
    """Means at the quantiles of N(0, 1) and sigma 1: z is N(0, 2), whose entropy is known."""
    quantiles = (np.arange(4000) + 0.5) / 4000
    mean = np.sqrt(2) * np.vectorize(_inverse_erf)(2 * quantiles - 1)
    result = mutual_information(mean[:, None], np.zeros((4000, 1)), np.arange(4000) % 2)
    assert result.latent_entropy[0] == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 2), abs=1e-3)
    assert result.mi[0, 0] == pytest.approx(0, abs=1e-5)  # neighboring means are almost equal


def _inverse_erf(y):
    low, high = -6.0, 6.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle) < y else (low, middle)
    return low


# === Invariances ===


def test_permuted_latents_and_relabeled_factors(random_codes):
    mean, log_var, factors = random_codes
    result = mutual_information(mean, log_var, factors)
    order = [2, 0, 1]
    other = mutual_information(mean[:, order], log_var[:, order], np.array([7, -1, 1000003])[factors[:, [0]]])
    np.testing.assert_allclose(other.mi, result.mi[:1, order], atol=1e-9)


def test_affine_maps_of_a_latent(random_codes):
    mean, log_var, factors = (array.astype("float64") for array in random_codes)
    factors = factors.astype(int)
    result = mutual_information(mean, log_var, factors)
    for scale, shift in (1000.0, 0.0), (1e-4, 3.0), (-1.0, -50.0), (1.0, 1e6):
        moved = mutual_information(scale * mean + shift, log_var + 2 * math.log(abs(scale)), factors)
        np.testing.assert_allclose(moved.mi, result.mi, atol=2e-5)


def test_order_of_rows_and_repetition(random_codes):
    result = mutual_information(*random_codes)
    order = np.random.default_rng(1).permutation(60)
    shuffled = mutual_information(*(array[order] for array in random_codes))
    twice = mutual_information(*(np.concatenate([array, array]) for array in random_codes))
    np.testing.assert_allclose(shuffled.mi, result.mi, atol=1e-9)
    np.testing.assert_allclose(twice.mi, result.mi, atol=1e-5)


def test_blocks_of_rows_and_classes_add_up(random_codes, monkeypatch):
    result = mutual_information(*random_codes)
    monkeypatch.setattr("keras_provlae.metrics.aggregate.ROWS_AT_ONCE", 7)
    monkeypatch.setattr("keras_provlae.metrics.aggregate.NUMBERS_AT_ONCE", 1)
    np.testing.assert_allclose(mutual_information(*random_codes).mi, result.mi, atol=1e-10)


# === Extremes ===


def test_sigma_1e_4():
    factors = np.repeat(np.arange(6), 20)
    mean = factors[:, None] + np.tile(np.linspace(0, 0.5, 20), 6)[:, None]
    log_var = np.full((120, 1), 2 * math.log(1e-4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = mutual_information(mean, log_var, np.stack([factors, np.arange(120)], axis=1))
    np.testing.assert_allclose(result.mi[:, 0], [math.log(6), math.log(120)], atol=5e-5)


def test_sigmas_over_four_decades():
    rng = np.random.default_rng(0)
    mean = rng.standard_normal((12, 1))
    log_var = 2 * np.linspace(math.log(1e-3), math.log(10), 12)[:, None]
    factors = np.arange(12)[:, None] % 3
    result = mutual_information(mean, log_var, factors)
    assert result.mi[0, 0] == pytest.approx(brute_force_information(mean, log_var, factors)[0, 0], abs=2e-5)


def test_sigma_below_the_floor_warns():
    mean = np.array([[0.0], [1.0], [2.0], [1e6]])
    with pytest.warns(UserWarning, match=r"below the floor of the grid.*latent 0"):
        result = mutual_information(mean, np.full((4, 1), -20.0), [0, 0, 1, 1])
    assert np.isfinite(result.mi).all()


def test_sigmas_in_exact_ratios():
    """The largest sigma is exactly one of the grid's widths: rounding must not move it past the last one."""
    for octaves in np.arange(1, 100, 3) / 8:
        for smallest in 0.12, 0.3, 1.7:
            log_var = 2 * np.log([[smallest], [smallest * 2**octaves]])
            result = mutual_information(np.array([[0.0], [1.0]]), log_var - 8, [0, 1])
            assert -1e-5 <= result.mi[0, 0] <= math.log(2) + 1e-5


def test_rows_of_weight_0_do_not_widen_the_grid(random_codes):
    mean, log_var, factors = random_codes
    far = np.concatenate([mean, [[1e7] * 3]]), np.concatenate([log_var, [[-5.0] * 3]])
    weighted = mutual_information(*far, np.concatenate([factors, [[0, 0]]]), weights=[1.0] * 60 + [0.0])
    result = mutual_information(*random_codes)
    np.testing.assert_allclose(weighted.mi, result.mi, atol=1e-6)
    assert weighted.rows == 61


def test_latents_with_an_unbiased_variance_above_a_hundredth_are_active():
    pattern = np.array([-1.0, 1.0] * 5)  # unbiased variance 10 / 9
    mean = 100.1 + np.outer(pattern, np.sqrt([0.0099, 0.0101, 0.05, 1e-6]) * math.sqrt(0.9))
    assert active_latents(mean).tolist() == [False, True, True, False]
    many = np.repeat(mean[:, [3]], 50_000, axis=0).astype("float32")
    assert not active_latents(many).any()  # a float32 sum would be off by more than the threshold


def test_normalized_is_clamped_at_0(random_codes):
    result = replace(mutual_information(*random_codes), mi=np.full((2, 3), -1e-9))
    assert not result.normalized.any()


def test_single_rows_below_the_floor():
    mean = np.array([[0.0], [1.0], [2.0], [1e6]])
    with pytest.warns(UserWarning, match="below the floor"):
        result = mutual_information(mean, np.full((4, 1), -40.0), np.arange(4))
    assert -1e-4 <= result.mi[0, 0] <= math.log(4) + 1e-4


def test_a_factor_that_numbers_the_rows():
    mean = np.linspace(-1, 1, 50)[:, None]
    log_var = np.full((50, 1), -3.0)
    result = mutual_information(mean, log_var, np.arange(50))
    sigma = np.exp(0.5 * log_var[:, 0])
    expected = brute_force_entropy(mean[:, 0], sigma) - 0.5 * math.log(2 * math.pi * math.e * sigma[0] ** 2)
    assert result.mi[0, 0] == pytest.approx(expected, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_codes_and_factors(data):
    rows = data.draw(st.integers(2, 30))
    latents, number = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    dtype = data.draw(st.sampled_from(["float16", "float32", "float64"]))
    mean = data.draw(hnp.arrays("float32", (rows, latents), elements=st.floats(-8, 8, width=32)))
    log_var = data.draw(hnp.arrays("float32", (rows, latents), elements=st.floats(-12, 0, width=32)))
    kind = data.draw(st.sampled_from(["int8", "uint16", "int32", "int64", "bool"]))
    values = st.booleans() if kind == "bool" else st.integers(0, 5)
    factors = data.draw(hnp.arrays(kind, (rows, number), elements=values))
    if data.draw(st.booleans()):  # all rows equal
        mean, log_var = np.repeat(mean[:1], rows, axis=0), np.repeat(log_var[:1], rows, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = mutual_information(mean.astype(dtype), log_var.astype(dtype), factors)
        gap, gap_sup = mig(result.normalized), mig_sup(result.normalized, result.active)
    assert result.mi.shape == (number, latents)
    assert np.isfinite(result.mi).all()
    assert (result.mi > -5e-5).all()
    assert (result.mi <= result.factor_entropy[:, None] + 5e-5).all()
    varied = [len(np.unique(column)) > 1 for column in factors.T]
    assert (np.isfinite(result.normalized).all(axis=1) == varied).all()
    for value in gap, gap_sup:
        assert math.isnan(value) or 0 <= value <= 1 + 1e-4
    assert math.isnan(gap) == (not any(varied))


# === The published sampling estimator ===


@pytest.mark.parametrize("name", ["modular_sum", "sigma_code", "nonlinear_mix"])
def test_samples_agree_with_quadrature_within_their_error(name):
    case = golden(name)
    repeats = [mutual_information(case.mean, case.log_var, case.factors, method="sample", seed=s) for s in range(4)]
    error = np.sqrt(np.mean([r.standard_error**2 for r in repeats], axis=0) / len(repeats))
    difference = np.mean([r.mi for r in repeats], axis=0) - case.expected["mi"]
    assert (np.abs(difference) <= 4 * error + 1e-4).all()


def test_samples_vary_like_the_published_estimator():
    case = golden("rotated_pair")
    published = case.expected["published_estimator"]
    result = mutual_information(case.mean, case.log_var, case.factors, method="sample")
    assert mig(result.normalized) == pytest.approx(published["mig"], abs=5 * published["mig_sd"])
    sd, error = np.array(published["mi_sd"]), result.standard_error
    known = sd > 1e-3
    assert (error[known] > 0.5 * sd[known]).all()
    assert (error[known] < 6 * sd[known]).all()


def test_few_draws_are_unbiased_and_their_error_is_the_spread_over_seeds(random_codes):
    exact = mutual_information(*random_codes).mi
    repeats = [mutual_information(*random_codes, method="sample", draws=12, seed=seed) for seed in range(80)]
    spread = np.std([r.mi for r in repeats], axis=0)
    error = np.sqrt(np.mean([r.standard_error**2 for r in repeats], axis=0))
    assert (np.abs(np.mean([r.mi for r in repeats], axis=0) - exact) < 4 * spread / math.sqrt(80)).all()
    np.testing.assert_allclose(error, spread, rtol=0.35)


def test_rows_in_both_entropies_add_no_error(random_codes):
    mean, log_var, factors = random_codes
    with pytest.warns(UserWarning, match="one value in all rows"):
        result = mutual_information(mean, log_var, 0 * factors, method="sample")
    np.testing.assert_allclose(result.mi, 0, atol=1e-6)
    np.testing.assert_allclose(result.standard_error, 0, atol=1e-6)


def test_the_seed_determines_the_samples(random_codes):
    one, same, other = (mutual_information(*random_codes, method="sample", seed=seed).mi for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


# === Printing and bad input ===


def test_the_result_prints_as_a_table(random_codes):
    result = mutual_information(*random_codes, factor_names=["shape", "size"])
    lines = str(result).splitlines()
    assert lines[0] == "I(z; v) in nats by quadrature, 60 rows"
    assert lines[2].split()[0] == "shape"
    assert [float(number) for number in lines[2].split()[2:]] == pytest.approx(result.mi[0], abs=6e-4)
    assert lines[-1].split() == ["active", *("yes" if a else "no" for a in result.active)]


def test_one_factor_may_be_a_vector(random_codes):
    mean, log_var, factors = random_codes
    flat = mutual_information(mean, log_var, factors[:, 0]).mi
    np.testing.assert_array_equal(flat, mutual_information(mean, log_var, factors[:, :1]).mi)


def test_a_constant_factor_is_named_in_a_warning_and_left_out(random_codes):
    mean, log_var, factors = random_codes
    with_constant = np.concatenate([factors, np.full((60, 1), 4)], axis=1)
    with pytest.warns(UserWarning, match=r"size has one value.*leave it out"):
        result = mutual_information(mean, log_var, with_constant, factor_names=["x", "y", "size"])
    without = mutual_information(mean, log_var, factors)
    np.testing.assert_allclose(result.mi[2], 0, atol=1e-9)
    assert np.isnan(result.normalized[2]).all()
    assert mig(result.normalized) == pytest.approx(mig(without.normalized))
    assert mig_sup(result.normalized) == pytest.approx(mig_sup(without.normalized))


def test_a_standard_deviation_instead_of_a_log_variance_warns(random_codes):
    mean, log_var, factors = random_codes
    for last in np.exp(0.5 * log_var[:, 2]), np.zeros(60):
        std = np.stack([*np.exp(0.5 * log_var[:, :2]).T, last], axis=1)
        with pytest.warns(UserWarning, match=r"pass 2 \* np.log\(std\)"):
            mutual_information(mean, std, factors)
    mutual_information(mean, np.full(mean.shape, 1e-4), factors)  # the prior's log variance is valid


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m, v, f: (m * np.nan, v, f), ValueError, r"`mean` must be finite. Received: NaN .* 60 of 60 rows"),
        (lambda m, v, f: (m, v + np.inf, f), ValueError, r"`log_var` must be finite"),
        (
            lambda m, v, f: (m, v, f * 0.1),
            ValueError,
            r"`factors` must be integers.*float64, 0\.\d in row .*return_inv",
        ),
        (lambda m, v, f: (m, v, f * np.nan), ValueError, r"`factors` must be integers.*nan in row 0 of column 0"),
        (lambda m, v, f: (m, v, f + 1e300), ValueError, r"`factors` must be integers.*1e\+300 in row 0"),
        (lambda m, v, f: (m, v, f.astype(str)), TypeError, r"`factors` must be integers.*return_inverse"),
        (lambda m, v, f: (m, v, f[:-1]), ValueError, r"59 rows of factors and 60 of codes"),
        (lambda m, v, f: (m, v[:-1], f), ValueError, r"same shape. Received: mean.shape=\(60, 3\)"),
        (lambda m, v, f: (m[0], v[0], f), ValueError, r"shape \(rows, latents\)"),
        (lambda m, v, f: (m[:1], v[:1], f[:1]), ValueError, r"at least two rows"),
        (lambda m, v, f: (m[:, :0], v[:, :0], f), ValueError, r"one latent"),
        (lambda m, v, f: (m, v, f[:, :0]), ValueError, r"at least one factor"),
        (lambda m, v, f: (m.astype(str), v, f), TypeError, r"real numbers"),
        (lambda m, v, f: (m * 1e35, v, f), ValueError, r"`mean` must lie within"),
        (lambda m, v, f: (m, v * 300, f), ValueError, r"`log_var` must lie within"),
        (lambda m, v, f: (m, v, [[1, 2], [3]]), TypeError, r"`factors` must be one array"),
    ],
)
def test_bad_codes_and_factors(random_codes, change, error, message):
    with pytest.raises(error, match=message):
        mutual_information(*change(*random_codes))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "kde"}, r'"quadrature" or "sample". Received: method=\'kde\''),
        ({"draws": 1}, r"`draws` must be at least 2"),
        ({"weights": np.full(60, -1.0)}, r"non-negative numbers"),
        ({"weights": np.zeros(60)}, r"at least two of them above 0"),
        ({"weights": np.ones(59)}, r"must be 60 finite"),
        ({"weights": np.ones(60), "method": "sample"}, r"does not support them"),
        ({"factor_names": ["x"]}, r"must name 2 factors"),
    ],
)
def test_bad_settings(random_codes, settings, message):
    with pytest.raises(ValueError, match=message):
        mutual_information(*random_codes, **settings)
