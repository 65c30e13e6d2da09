import math

import numpy as np
import pytest

from keras_provlae.metrics import gaussian_total_correlation, wasserstein_correlation
from tests.metrics.golden import golden, having


@pytest.mark.parametrize("name", having("gaussian_total_correlation"))
def test_golden_gaussian_scores(name):
    case = golden(name)
    total_correlation = gaussian_total_correlation(case.mean)
    if np.linalg.eigvalsh(np.corrcoef(case.mean.T))[0] < 1e-12:  # infinite up to rounding, which depends on the CPU
        assert total_correlation > 15
    else:
        assert total_correlation == pytest.approx(case.expected["gaussian_total_correlation"], abs=1e-6)
    scores = [wasserstein_correlation(case.mean), wasserstein_correlation(case.mean, normalized=True)]
    assert scores == pytest.approx(case.expected["wasserstein_correlation"], abs=1e-6)


def test_two_correlated_latents():
    rho = 0.6
    z = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    mean = np.stack([z[:, 0], rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]], axis=1)
    assert gaussian_total_correlation(mean) == pytest.approx(-0.5 * math.log(1 - rho**2))
    variance = 4 / 3
    expected = 4 * variance - 2 * variance * (math.sqrt(1 + rho) + math.sqrt(1 - rho))
    assert wasserstein_correlation(mean) == pytest.approx(expected)
    assert wasserstein_correlation(mean, normalized=True) == pytest.approx(expected / (2 * variance))


def test_constant_latents_are_left_out():
    z = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    with_constant = np.concatenate([z, np.ones((5, 1))], axis=1)
    assert gaussian_total_correlation(with_constant) == pytest.approx(gaussian_total_correlation(z))
    assert wasserstein_correlation(with_constant) == pytest.approx(wasserstein_correlation(z))
    assert gaussian_total_correlation(with_constant[:, 1:2]) == 0
    assert wasserstein_correlation(np.ones((5, 3))) == 0


def test_copies_have_a_large_total_correlation():
    column = np.random.default_rng(0).standard_normal((50, 1))
    assert gaussian_total_correlation(np.repeat(column, 2, axis=1)) > 15
