"""Which indices every step of a stream reads: the arithmetic, and the orders of TensorFlow computed by NumPy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_provlae.checks import check_count
from keras_provlae.datasets.checks import checked_shard, chosen_seed

# Constants of Philox 4x32-10, and the key that TensorFlow mixes seeds with
_MULTIPLIERS, _RAISES, _ROUNDS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 10
_SEED_KEY = (0x3EC8F720, 0x02461E29)
_LOW, _WORD = np.uint64(0xFFFFFFFF), np.uint64(32)


class Passes(NamedTuple):
    """One epoch after another over the indices 0 .. count - 1, in batches; see `index_batches` for the fields."""

    count: int  # type: ignore[assignment]  # hides `tuple.count`
    batch_size: int
    seed: int
    shuffle: bool
    start_step: int
    drop_remainder: bool
    shard: tuple[int, int]

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self.count // self.batch_size if self.drop_remainder else -(-self.count // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """The order of an epoch: int64 `(count,)`."""
        return shuffled(self.count, self.seed, epoch) if self.shuffle else np.arange(self.count)

    def part(self, order: np.ndarray, step: int) -> np.ndarray:
        """This process's part of a batch.

        Args:
            order: The order of the epoch.
            step: Int. Number of the batch in the epoch.

        Returns:
            int64 array `(batch,)`.
        """
        batch = order[step * self.batch_size : (step + 1) * self.batch_size]
        index, shards = self.shard
        return batch[len(batch) * index // shards : len(batch) * (index + 1) // shards]


def checked_passes(
    count: int,
    batch_size: int,
    seed: int | None = None,
    shuffle: bool = True,
    start_step: int = 0,
    drop_remainder: bool = False,
    shard: Sequence[int] | None = None,
) -> Passes:
    """Checks the arguments of `index_batches`, and draws a seed for `None`.

    Raises:
        TypeError, ValueError: If an argument is invalid.
    """
    check_count("batch_size", batch_size)
    check_count("start_step", start_step, least=0)
    pair = checked_shard(shard, batch_size)
    passes = Passes(count, int(batch_size), chosen_seed(seed), shuffle, int(start_step), drop_remainder, pair)
    remainder = count % passes.batch_size
    if pair[1] > 1 and not drop_remainder and 0 < remainder < pair[1]:
        raise ValueError(
            "The last batch of an epoch must have at least one image per process. "
            f"Received: {remainder} for {pair[1]} (batch_size={batch_size}, {count} images). "
            "Pass `drop_remainder=True`."
        )
    if not passes.steps:
        raise ValueError(
            "`drop_remainder` needs at least one full batch. "
            f"Received: batch_size={batch_size}, {count} images. Lower `batch_size` or keep the remainder."
        )
    return passes


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order that `tf.random.experimental.stateless_shuffle` gives `range(count)` with the seed `(seed, epoch)`.

    Args:
        count: Int >= 1.
        seed: Int, 0 .. 2 ** 63 - 1.
        epoch: Int >= 0.

    Returns:
        int64 array `(count,)`.

    Example:
        >>> shuffled(7, seed=0, epoch=0).tolist()
        [5, 4, 0, 2, 6, 3, 1]

    Source: Fisher and Yates's shuffle; Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", for Philox.
    """
    words = [seed & 0xFFFFFFFF, seed >> 32, epoch & 0xFFFFFFFF, epoch >> 32]
    first, second, *start = _philox(np.array([words], "uint64"), _SEED_KEY)[0]
    counters = np.zeros((-(-count // 4), 4), "uint64")  # a counter gives four numbers of 32 bits
    counters[:, 0], counters[:, 2:] = np.arange(len(counters)), start
    numbers = _philox(counters, (int(first), int(second))).reshape(-1)[:count]
    offsets = numbers % np.arange(count, 0, -1, dtype="uint64")
    order = list(range(count))
    for place, offset in enumerate(offsets.tolist()):
        order[place], order[place + offset] = order[place + offset], order[place]
    return np.array(order, "int64")


def _philox(counters, key):
    """Random 32-bit numbers `(n, 4)` of the counters `(n, 4)`, both in uint64 arrays."""
    a, b, c, d = counters.T
    key = np.array(key, "uint64")
    multipliers, raises = np.array(_MULTIPLIERS, "uint64"), np.array(_RAISES, "uint64")
    for _ in range(_ROUNDS):
        first, second = a * multipliers[0], c * multipliers[1]
        a, b, c, d = (second >> _WORD) ^ b ^ key[0], second & _LOW, (first >> _WORD) ^ d ^ key[1], first & _LOW
        key = (key + raises) & _LOW
    return np.stack([a, b, c, d], axis=-1)
