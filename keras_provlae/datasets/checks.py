"""Argument checks shared by the data sets."""

import random
from collections.abc import Sequence
from numbers import Integral

from keras_provlae.checks import check_count

MOST_CHANNELS = 4  # red, green, blue and alpha


def check_channels(shape: Sequence[int], data_format: str | None = None) -> None:
    """Rejects images that look like `(n, channels, height, width)`.

    Args:
        shape: Shape of the images, four ints.
        data_format: `"channels_last"` accepts any shape as `(n, height, width, channels)`.

    Raises:
        ValueError: If the images have 1 to 4 rows and more than 4 channels, or `data_format` is unknown.
    """
    if data_format not in (None, "channels_last"):
        raise ValueError(
            f'`data_format` must be None or "channels_last". Received: data_format={data_format!r}. '
            "Transpose channels-first images: np.moveaxis(images, 1, -1)."
        )
    if data_format is None and shape[1] <= MOST_CHANNELS < shape[3]:
        raise ValueError(
            "`images` must be (n, height, width, channels), but these look like (n, channels, height, width). "
            f"Received: shape {tuple(shape)}. Transpose them with np.moveaxis(images, 1, -1), or pass "
            f'data_format="channels_last" if they really have {shape[1]} rows and {shape[3]} channels.'
        )


def checked_shard(shard: Sequence[int] | None, batch_size: int) -> tuple[int, int]:
    """Checks a shard and returns its `(index, count)`, `(0, 1)` for `None`; `count` must divide `batch_size`."""
    if shard is None:
        return 0, 1
    pair = isinstance(shard, Sequence) and len(shard) == 2
    if not pair or not all(isinstance(number, Integral) and not isinstance(number, bool) for number in shard):
        raise TypeError(
            "`shard` must be a pair of integers (index, count): this process's index and the number of processes. "
            f"Received: shard={shard!r}."
        )
    index, count = map(int, shard)
    if not 0 <= index < count:
        raise ValueError(f"`shard` must be (index, count) with 0 <= index < count. Received: shard={shard!r}.")
    if batch_size % count:
        raise ValueError(
            f"`batch_size` counts the images of all processes and must be divisible by their number {count}. "
            f"Received: batch_size={batch_size}, shard={shard!r}."
        )
    return index, count


def chosen_seed(seed: int | None, shard: Sequence[int] | None = None) -> int:
    """Checks a seed and returns it; draws one from Python's generator for `None`, unless `shard` is given."""
    if seed is None and shard is not None:
        raise ValueError(
            f"`shard` needs a `seed`. Received: seed=None, shard={shard!r}. Pass the same seed in every process: "
            "they read parts of one stream."
        )
    if seed is None:
        return random.getrandbits(31)
    check_count("seed", seed, least=0)
    if seed >= 2**63:
        raise ValueError(f"`seed` must be less than 2^63. Received: seed={seed}.")
    return int(seed)
