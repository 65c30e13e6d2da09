import math

import numpy as np
import pytest

from keras_provlae.metrics import histogram_information, histogram_mig, latent_information, modularity


def test_golden_histogram_scores(case):
    expected = case.expected
    information = histogram_information(case.mean, case.factors)
    np.testing.assert_allclose(information, expected["histogram_information"], atol=1e-6)
    assert histogram_mig(case.mean, case.factors) == pytest.approx(expected["histogram_mig"], abs=1e-6)
    assert modularity(case.mean, case.factors) == pytest.approx(expected["modularity"], abs=1e-6)
    assert latent_information(case.mean) == pytest.approx(expected["latent_information"], abs=1e-6)


def test_factors_are_rows_and_latents_are_columns():
    factors = np.stack(np.meshgrid(range(4), range(6), indexing="ij"), axis=-1).reshape(-1, 2)
    information = histogram_information(factors[:, [1, 0]] * 1.0, factors)
    np.testing.assert_allclose(information, [[0, math.log(4)], [math.log(6), 0]], atol=1e-12)


def test_modularity_needs_two_factors():
    with pytest.raises(ValueError, match="Modularity needs at least 2 factors with two values. Received: 1 factors"):
        modularity(np.eye(4), np.arange(4))


def test_a_latent_without_information_scores_0_in_modularity():
    factors = np.stack(np.meshgrid(range(4), range(4)), axis=-1).reshape(-1, 2)
    mean = np.concatenate([factors[:, :1], np.zeros((16, 1))], axis=1)
    assert modularity(mean, factors) == pytest.approx(0.5)


def test_the_histogram_mig_leaves_out_constant_factors():
    factors = np.stack([np.arange(8), np.zeros(8, int)], axis=1)
    with pytest.warns(UserWarning, match=r"leaves out the factors \[1\] \(columns\)"):
        assert histogram_mig(np.arange(8.0)[:, None], factors) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 1 factor with two values"):
        histogram_mig(np.arange(8.0)[:, None], factors[:, 1:])


def test_bins():
    mean = np.arange(100.0)[:, None]
    assert histogram_information(mean, np.arange(100), bins=5)[0, 0] == pytest.approx(math.log(5))
    with pytest.raises(ValueError, match="`bins` must be at least 1"):
        histogram_information(mean, np.arange(100), bins=0)


def test_a_single_latent_has_no_latent_information():
    assert latent_information(np.arange(5.0)[:, None]) == 0
