"""Golden cases: posteriors, factors and the expected value of each score. See tests/data/metrics/README.md."""

import functools
import json
import types

import numpy as np

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "tests" / "data" / "metrics"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def having(score):
    """Returns the names of the cases with an expected value of a score."""
    return [name for name, expected in EXPECTED.items() if score in expected]


@functools.cache
def golden(name):
    """Returns a case with `mean`, `log_var`, `factors`, `train`, `test`, `rung_slices` and `expected`."""
    expected = EXPECTED[name]
    with np.load(FOLDER / "codes.npz") as file:
        arrays = {
            key: file[f"{name}/{key}"]
            for key in ("mean", "log_var", "factors", "train", "test")
            if f"{name}/{key}" in file
        }
    sizes = expected["factor_sizes"]
    grid = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
    rungs = expected["rungs"]
    return types.SimpleNamespace(
        name=name,
        expected=expected,
        rung_slices=[(len(rungs) - i, slice(of[0], of[-1] + 1)) for i, of in enumerate(rungs)],
        **{"factors": grid, **arrays},
    )
