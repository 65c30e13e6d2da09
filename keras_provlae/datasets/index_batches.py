"""Shuffled batches of indices, one epoch after another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from keras_provlae.datasets.passes import checked_passes
from keras_provlae.lazy_tensorflow import tf


def index_batches(
    count: int,
    batch_size: int,
    seed: int | None = None,
    shuffle: bool = True,
    start_step: int = 0,
    repeat: bool = False,
    drop_remainder: bool = False,
    shard: Sequence[int] | None = None,
) -> tf.data.Dataset:
    """Batches of the indices 0 .. count - 1, each index once per epoch.

    The order depends only on the seed and the epoch number, not on the global seed. So a new data set with the same
    seed gives the same stream, and starting in the middle of the stream costs nothing.

    Args:
        count: Int >= 1.
        batch_size: Int >= 1, of all processes together. The last batch of an epoch may be smaller.
        seed: Int or `None`, which draws one from Python's generator, as set by `keras.utils.set_random_seed`.
        shuffle: Bool. `False` keeps ascending order.
        start_step: Int >= 0. Number of batches to skip at the start of the stream.
        repeat: Bool. `False`: each iteration over the data set is the next epoch. `True`: each iteration is the whole
            endless stream from `start_step` on.
        drop_remainder: Bool. Drops the last batch of an epoch if it is smaller.
        shard: `(index, count)`: reads only this process's part of every batch. The parts of a step, joined, are the
            batch that a single process reads at that step; their sizes differ by one index at most.

    Returns:
        A `tf.data.Dataset` of int64 `(batch,)`, a static size with `drop_remainder`. `len` works unless `start_step`
        is in the middle of an epoch (without `repeat`).

    Raises:
        TypeError, ValueError: If an argument is invalid.
    """
    passes = checked_passes(count, batch_size, seed, shuffle, start_step, drop_remainder, shard)
    batch_size, start_step, steps, (index, shards) = passes.batch_size, passes.start_step, passes.steps, passes.shard
    seed = tf.constant(passes.seed, tf.int64)
    first_epoch, first_batch = divmod(start_step, steps)

    def epoch_batches(epoch):
        order = tf.range(tf.constant(count, tf.int64))
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, tf.stack([seed, epoch]))
        start = tf.where(epoch == first_epoch, tf.constant(first_batch, tf.int64), 0)
        batches = tf.data.Dataset.range(start, steps)
        return batches.map(lambda step: own_part(order[step * batch_size : (step + 1) * batch_size]))

    def own_part(batch):
        size = tf.size(batch)
        part = batch[size * index // shards : size * (index + 1) // shards]
        return tf.ensure_shape(part, (batch_size // shards,)) if drop_remainder else part

    if repeat:
        return (
            tf.data.Dataset.counter(first_epoch)
            .flat_map(epoch_batches)
            .apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        )
    epochs = itertools.count(first_epoch)  # one Python call per epoch
    ds = tf.data.Dataset.from_generator(lambda: [next(epochs)], output_signature=tf.TensorSpec((), tf.int64)).flat_map(
        epoch_batches
    )
    return ds if first_batch else ds.apply(tf.data.experimental.assert_cardinality(steps))
