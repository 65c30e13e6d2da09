"""The golden cases beside the repository: posteriors, factors and what is expected of every score."""

import functools
import json
import types

import numpy as np

from tests.conftest import SHARED

FOLDER = SHARED / "reference" / "metrics"
CASES = (
    "perfect_1to1",
    "discrete_separated",
    "split_factor",
    "two_in_one",
    "rotated_pair",
    "rotated_full",
    "inactive_dims",
    "noise_means",
    "collapsed",
    "modular_sum",
    "wide_sigma",
    "one_active",
    "sigma_code",
    "nonlinear_mix",
    "incomplete_grid",
)


@functools.cache
def _expected():
    return json.loads((FOLDER / "expected.json").read_text())["cases"]


@functools.cache
def golden(name):
    """One case: `mean`, `log_var`, `factors`, `train`, `test`, `rung_slices` and `expected`."""
    arrays = np.load(FOLDER / f"{name}.npz")
    expected = _expected()[name]
    layers = expected["layers"]
    return types.SimpleNamespace(
        name=name,
        mean=arrays["mean"],
        log_var=arrays["logvar"],
        factors=arrays["labels"],
        train=arrays["train_idx"],
        test=arrays["test_idx"],
        rung_slices=[(len(layers) - i, slice(of[0], of[-1] + 1)) for i, of in enumerate(layers)],
        expected=expected,
    )
