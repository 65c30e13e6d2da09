import itertools

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_provlae.losses import (
    _stratified_weights,
    bernoulli_nll,
    bounded_log_var,
    gaussian_kl,
    gaussian_nll,
    total_correlation,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_bernoulli_nll_is_the_sum_of_pixel_cross_entropies(rng):
    x, logits = rng.uniform(size=(3, 4, 5, 2)), rng.normal(scale=3, size=(3, 4, 5, 2))
    p = 1 / (1 + np.exp(-logits))
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3))
    np.testing.assert_allclose(bernoulli_nll(x.astype("float32"), logits.astype("float32")), expected, rtol=1e-5)


def test_bernoulli_nll_is_exact_where_a_sigmoid_would_saturate():
    x = np.array([1.0, 0.0, 1.0, 0.0], "float32").reshape(4, 1, 1, 1)
    logits = np.array([1e4, -1e4, -1e4, 1e4], "float32").reshape(4, 1, 1, 1)
    np.testing.assert_allclose(bernoulli_nll(x, logits), [0, 0, 1e4, 1e4])


def test_gaussian_nll_is_minus_the_log_density(rng):
    x, mean, scale = rng.normal(size=(3, 4, 5, 2)), rng.normal(size=(3, 4, 5, 2)), 0.7
    density = np.exp(-((x - mean) ** 2) / (2 * scale**2)) / (scale * np.sqrt(2 * np.pi))
    expected = -np.log(density).sum((1, 2, 3))
    np.testing.assert_allclose(gaussian_nll(x.astype("float32"), mean.astype("float32"), scale), expected, rtol=1e-5)


def test_gaussian_kl_agrees_with_numerical_integration(rng):
    mean, log_var = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    z = np.linspace(-15, 15, 60_001)
    var = np.exp(log_var)[..., None]
    log_q = -0.5 * ((z - mean[..., None]) ** 2 / var + np.log(2 * np.pi * var))
    log_p = -0.5 * (z**2 + np.log(2 * np.pi))
    expected = (np.exp(log_q) * (log_q - log_p)).sum(-1) * (z[1] - z[0])
    np.testing.assert_allclose(
        gaussian_kl(mean.astype("float32"), log_var.astype("float32")), expected.sum(-1), rtol=1e-5
    )


def test_gaussian_kl_is_never_negative_close_to_the_prior(rng):
    mean, log_var = rng.normal(scale=1e-4, size=(2, 1000, 3)).astype("float32")
    kl = gaussian_kl(mean, log_var).numpy()
    exact = 0.5 * (mean.astype("float64") ** 2 + np.expm1(log_var.astype("float64")) - log_var).sum(-1)
    assert kl.min() >= -1e-12
    np.testing.assert_allclose(kl, exact, atol=1e-10)


def test_log_var_is_bounded_in_value_but_not_in_gradient():
    values = tf.constant([-1e9, -31.0, -30.0, -5.0, 0.0, 3.0, 20.0, 25.0, 1e9])
    with tf.GradientTape() as tape:
        tape.watch(values)
        bounded = bounded_log_var(values)
        total = tf.reduce_sum(bounded)
    np.testing.assert_array_equal(bounded, [-30, -30, -30, -5, 0, 3, 20, 20, 20])
    np.testing.assert_array_equal(tape.gradient(total, values), np.ones(9))


def test_the_kl_of_a_runaway_log_var_is_finite_and_pulls_it_back():
    log_var = tf.constant([[1000.0], [-1000.0]])
    with tf.GradientTape() as tape:
        tape.watch(log_var)
        kl = gaussian_kl(tf.zeros((2, 1)), log_var)
    gradient = tape.gradient(kl, log_var).numpy().ravel()
    assert np.isfinite(kl).all()
    assert np.isfinite(gradient).all()
    assert gradient[0] > 0 > gradient[1]  # descent brings both back


def test_nan_stays_nan():
    assert np.isnan(gaussian_kl(np.zeros((1, 1), "float32"), np.full((1, 1), np.nan, "float32"))).all()
    assert np.isnan(bernoulli_nll(np.zeros((1, 1, 1, 1)), np.full((1, 1, 1, 1), np.nan))).all()


@pytest.mark.parametrize("loss", [bernoulli_nll, gaussian_nll, gaussian_kl])
def test_shapes_that_would_broadcast_raise(loss):
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(1, 3\)"):
        loss(np.zeros((2, 3), "float32"), np.zeros((1, 3), "float32"))


def test_gaussian_nll_needs_a_positive_scale():
    with pytest.raises(ValueError, match="scale=0"):
        gaussian_nll(np.zeros((1, 1, 1, 1)), np.zeros((1, 1, 1, 1)), scale=0)


def gaussian_codes(covariance, noise, rows, rng):
    """Returns codes, means and log variances of posteriors N(x, noise^2) with x ~ N(0, covariance)."""
    mean = rng.multivariate_normal(np.zeros(len(covariance)), covariance, size=rows)
    codes = mean + noise * rng.standard_normal(mean.shape)
    return codes, mean, np.full(mean.shape, 2 * np.log(noise))


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_total_correlation_of_a_gaussian_is_the_closed_form(rng, correlation):
    covariance = np.full((3, 3), correlation) + (1 - correlation) * np.eye(3)
    noise = 0.5
    codes, mean, log_var = gaussian_codes(covariance, noise, 800, rng)
    marginal = covariance + noise**2 * np.eye(3)  # of the aggregate posterior
    exact = 0.5 * (np.log(np.diag(marginal)).sum() - np.linalg.slogdet(marginal)[1])
    estimate = float(ops.mean(total_correlation(codes, mean, log_var, dataset_size=800)))
    assert estimate == pytest.approx(exact, abs=0.06)


def test_total_correlation_of_batches_of_a_larger_data_set(rng):
    """With batches of 250 from a million images the bias is a few hundredths; smaller batches have a larger one."""
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    exact = -0.5 * np.log(1 - (0.8 / 1.25) ** 2)
    estimates = {}
    for batch, count in (20, 60), (250, 8):
        draws = [gaussian_codes(covariance, 0.5, batch, rng) for _ in range(count)]
        estimates[batch] = np.mean([ops.mean(total_correlation(*draw, dataset_size=10**6)) for draw in draws])
    assert estimates[250] == pytest.approx(exact, abs=0.06)
    assert estimates[20] < estimates[250]


def test_stratified_weights_estimate_the_density_without_bias(rng):
    """Averaged over all batches of 3 with image 0, the weighted density is the mean over all 5 images."""
    density = rng.uniform(1, 2, size=5)
    weights = np.array(_stratified_weights(3, 5, "float64"))
    estimates = [weights[0] @ density[[0, *others]] for others in itertools.permutations(range(1, 5), 2)]
    assert np.mean(estimates) == pytest.approx(density.mean())
    np.testing.assert_allclose(np.diag(weights), 1 / 5)


def test_total_correlation_ignores_locked_latents(rng):
    codes, mean, log_var = gaussian_codes(np.eye(4) + 0.5, 0.5, 40, rng)
    unlocked = np.array([1.0, 0, 1, 0])
    some = total_correlation(codes, mean, log_var, 1000, unlocked)
    alone = total_correlation(codes[:, ::2], mean[:, ::2], log_var[:, ::2], 1000)
    np.testing.assert_allclose(some, alone, atol=1e-5)


def test_total_correlation_passes_gradients_to_all_of_its_tensors(rng):
    """The gradients are those of central differences, so training lowers the term."""
    values = [rng.normal(size=(6, 2)) for _ in range(3)]
    tensors = [tf.constant(value) for value in values]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = tf.reduce_sum(total_correlation(*tensors, 50))
    for index, gradient in enumerate(tape.gradient(loss, tensors)):
        ends = []
        for step in 1e-5, -1e-5:
            moved = [value.copy() for value in values]
            moved[index][3, 1] += step
            ends.append(float(tf.reduce_sum(total_correlation(*map(tf.constant, moved), 50))))
        assert float(gradient[3, 1]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)


@pytest.mark.parametrize(
    ("dataset_size", "rows", "error", "message"),
    [
        (None, 4, TypeError, "number of training images.*dataset_size=None"),
        (1, 4, ValueError, "dataset_size=1"),
        (3, 4, ValueError, "at most `dataset_size`.*4 images, dataset_size=3"),
        (10, 1, ValueError, "at least 2 images.*1 images"),
    ],
)
def test_total_correlation_needs_two_images_and_the_size_of_the_data_set(dataset_size, rows, error, message):
    with pytest.raises(error, match=message):
        total_correlation(*np.zeros((3, rows, 2)), dataset_size)
