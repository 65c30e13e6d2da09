"""Checks of arguments that the data sets share."""

import random
from numbers import Integral
from typing import Any


def check_count(name: str, number: Any, least: int = 1) -> None:
    """An integer that must be at least so large."""
    if not isinstance(number, Integral) or isinstance(number, bool):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={number!r}.")
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}. Received: {name}={number}.")


def chosen_seed(seed: int | None) -> int:
    """The seed itself or, for `None`, one that `keras.utils.set_random_seed` decides."""
    if seed is None:
        return random.getrandbits(31)
    check_count("seed", seed, least=0)
    if seed >= 2**63:
        raise ValueError(f"`seed` must be less than 2^63. Received: seed={seed}.")
    return int(seed)
