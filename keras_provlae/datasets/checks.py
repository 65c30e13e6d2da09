"""Checks of arguments that the data sets share."""

import random
from collections.abc import Sequence
from numbers import Integral
from typing import Any


def check_count(name: str, number: Any, least: int = 1) -> None:
    """An integer that must be at least so large."""
    if not isinstance(number, Integral) or isinstance(number, bool):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={number!r}.")
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}. Received: {name}={number}.")


def checked_shard(shard: Sequence[int] | None, batch_size: int) -> tuple[int, int]:
    """`(index, count)` of the process that reads, `(0, 1)` for `None`; `batch_size` must be divisible by the count."""
    if shard is None:
        return 0, 1
    pair = isinstance(shard, Sequence) and len(shard) == 2
    if not pair or not all(isinstance(number, Integral) and not isinstance(number, bool) for number in shard):
        raise TypeError(
            "`shard` must be a pair of integers (index, count): the number of this process and how many there are. "
            f"Received: shard={shard!r}."
        )
    index, count = map(int, shard)
    if not 0 <= index < count:
        raise ValueError(
            "`shard` must be (index, count) with 0 <= index < count: processes are numbered from 0. "
            f"Received: shard={shard!r}."
        )
    if batch_size % count:
        raise ValueError(
            f"`batch_size` is that of all processes together, and must be divisible by their number {count}. "
            f"Received: batch_size={batch_size}, shard={shard!r}."
        )
    return index, count


def chosen_seed(seed: int | None, shard: Sequence[int] | None = None) -> int:
    """The seed itself or, for `None` and one process, one that `keras.utils.set_random_seed` decides."""
    if seed is None and shard is not None:
        raise ValueError(
            "`shard` needs a `seed`, the same in every process: they read parts of one stream. "
            f"Received: seed=None, shard={shard!r}."
        )
    if seed is None:
        return random.getrandbits(31)
    check_count("seed", seed, least=0)
    if seed >= 2**63:
        raise ValueError(f"`seed` must be less than 2^63. Received: seed={seed}.")
    return int(seed)
