import math

import numpy as np
import pytest

from keras_provlae.metrics import mig, mig_sup, mutual_information


def test_mig_sees_splitting_and_mig_sup_sees_merging():
    split = np.array([[0.9, 0.9, 0.0], [0.0, 0.0, 0.8]])  # rows factors, columns latents
    merged = np.array([[0.9, 0.0], [0.8, 0.0]])
    assert mig(split) == pytest.approx(0.4)
    assert mig_sup(split) == pytest.approx(2.6 / 3)
    assert mig(merged) == pytest.approx(0.85)
    assert mig_sup(merged, active=np.array([True, False])) == pytest.approx(0.1)
    assert mig_sup(merged) == pytest.approx(0.05)  # the empty latent counts with a gap of 0


def test_negative_values_count_as_0():
    assert mig([[0.5, -0.3], [-0.1, -0.2]]) == pytest.approx(0.25)


def test_inactive_latents_count_only_for_mig():
    matrix = np.array([[0.9, 0.7], [0.0, 0.2]])
    assert mig(matrix) == pytest.approx((0.2 + 0.2) / 2)
    assert mig_sup(matrix, active=[True, False]) == pytest.approx(0.9)


def test_a_missing_second_best_is_0():
    assert mig([[0.7], [0.1]]) == pytest.approx(0.4)
    assert mig_sup([[0.7, 0.1]]) == pytest.approx(0.4)


def test_undefined_scores_are_nan_with_a_warning():
    with pytest.warns(UserWarning, match="MIG-sup is undefined: no latent is active"):
        assert math.isnan(mig_sup([[0.1, 0.2]], active=[False, False]))
    with pytest.warns(UserWarning, match="MIG is undefined: no factor has two values"):
        assert math.isnan(mig([[np.nan, np.nan]]))


@pytest.mark.parametrize("matrix", [[0.1, 0.2], np.zeros((0, 3)), np.zeros((2, 3, 4)), 0.5])
def test_bad_matrices(matrix):
    with pytest.raises(ValueError, match=r"shape \(factors, latents\)"):
        mig(matrix)


def test_nats_infinities_and_results_are_rejected():
    with pytest.warns(UserWarning, match="not nats"):
        mig([[2.0, 0.1]])
    with pytest.raises(ValueError, match="must be finite"):
        mig([[np.nan, 0.1]])
    with pytest.raises(ValueError, match="must be finite"):
        mig_sup([[np.inf, 0.1]])
    information = mutual_information(np.eye(4), np.full((4, 4), -4.0), np.arange(4))
    with pytest.raises(TypeError, match=r"Received: MutualInformation; pass its `.normalized`"):
        mig(information)
    with pytest.raises(TypeError, match="must be one array"):
        mig([[0.1, 0.2], [0.3]])


def test_the_warning_names_constant_factors_as_the_reason():
    with pytest.warns(UserWarning, match="MIG-sup is undefined: no factor has two values"):
        mig_sup([[np.nan, np.nan]], [True, True])


@pytest.mark.parametrize("active", [[True], [1, 0], np.ones((2, 2), bool)])
def test_bad_active(active):
    with pytest.raises(ValueError, match="2 booleans, one per latent"):
        mig_sup([[0.1, 0.2]], active)
