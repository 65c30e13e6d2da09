import numpy as np
import pytest

from keras_provlae.metrics import irs


def test_golden_irs(case):
    expected = case.expected["disentanglement_lib"]["deterministic_on_all_rows"]
    assert irs(case.mean, case.factors) == pytest.approx(expected["irs_full_q0.99"], abs=1e-6)
    assert irs(case.mean, case.factors, quantile=1.0) == pytest.approx(expected["irs_full_q1"], abs=1e-6)


def test_latents_that_never_move():
    with pytest.warns(UserWarning, match="the IRS is 0"):
        assert irs(np.ones((6, 2)), np.arange(6) % 2) == 0


@pytest.mark.parametrize("quantile", [-0.1, 1.5])
def test_bad_quantile(quantile):
    with pytest.raises(ValueError, match=r"`quantile` must be in \[0, 1\]"):
        irs(np.eye(4), np.arange(4), quantile)
