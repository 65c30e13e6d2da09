import numpy as np
import pytest

from keras_provlae.metrics import irs


def test_golden_irs(case):
    scores = [irs(case.mean, case.factors), irs(case.mean, case.factors, quantile=1.0)]
    assert scores == pytest.approx(case.expected["irs"], abs=1e-6)


def test_values_need_not_be_consecutive():
    factors = np.arange(12)[:, None] // [4, 3]
    mean = factors + np.random.default_rng(0).standard_normal((12, 2))
    assert irs(mean, 5 * factors - 3) == irs(mean, factors)


def test_constant_latents_score_0():
    with pytest.warns(UserWarning, match="the IRS is 0"):
        assert irs(np.ones((6, 2)), np.arange(6) % 2) == 0


@pytest.mark.parametrize("quantile", [-0.1, 1.5])
def test_bad_quantile(quantile):
    with pytest.raises(ValueError, match=r"`quantile` must be in \[0, 1\]"):
        irs(np.eye(4), np.arange(4), quantile)
