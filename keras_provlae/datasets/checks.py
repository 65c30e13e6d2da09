"""Checks of arguments that the data sets share."""

import random
from collections.abc import Sequence
from numbers import Integral

from keras_provlae.checks import check_count

MOST_CHANNELS = 4  # of a picture: red, green, blue and alpha


def check_channels(shape: Sequence[int], data_format: str | None = None) -> None:
    """Refuses images `(n, height, width, channels)` that look like `(n, channels, height, width)`.

    Args:
        shape: Four ints.
        data_format: `"channels_last"` says that they are what they do not look like.

    Raises:
        ValueError: If they have 1 to 4 rows and more than 4 channels, or `data_format` is unknown.
    """
    if data_format not in (None, "channels_last"):
        raise ValueError(
            '`data_format` must be None or "channels_last"; transpose images that have their channels first: '
            f"np.moveaxis(images, 1, -1). Received: data_format={data_format!r}."
        )
    if data_format is None and shape[1] <= MOST_CHANNELS < shape[3]:
        raise ValueError(
            "`images` must be (n, height, width, channels), and these look like (n, channels, height, width): "
            'transpose them with np.moveaxis(images, 1, -1), or pass data_format="channels_last" if they really '
            f"are {shape[1]} pixels high with {shape[3]} channels. Received: shape {tuple(shape)}."
        )


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
