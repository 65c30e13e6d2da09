"""Passes over numbered images: each image once, in an order drawn anew for each pass."""

import itertools
from collections.abc import Sequence

import tensorflow as tf

from keras_provlae.checks import check_count
from keras_provlae.datasets.checks import checked_shard, chosen_seed


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
    """Batches of the numbers 0 .. count - 1: a pass for each iteration over the data set, or passes without an end.

    The order is a function of the seed and the number of the pass, and of nothing else: a new data set with the same
    seed gives the same stream, whatever the global seed is, and a later part of the stream costs nothing to reach.
    The parts that several processes read of a step are together what one process reads at that step.

    Args:
        count: Int >= 1.
        batch_size: Int >= 1. The last batch of a pass may be smaller.
        seed: Int or `None`: drawn, as `keras.utils.set_random_seed` decides.
        shuffle: Bool. `False` is ascending order.
        start_step: Int >= 0. Batches of the stream to leave out.
        repeat: Bool. `False`: an iteration is a pass, and the next iteration the next pass. `True`: every iteration is
            the whole endless stream from `start_step` on.
        drop_remainder: Bool. Leaves out the last batch of a pass where it is smaller.
        shard: `(index, count)`: only the part of every batch that process `index` of `count` reads. They are equal
            parts, but for the last, smaller batch of a pass: of that they differ by one number at most.

    Returns:
        A `tf.data.Dataset` of int64 `(batch,)`; with `drop_remainder` that size is static. It knows its length unless
        it is one pass that starts amid.

    Raises:
        TypeError, ValueError: If an argument is unfit.
    """
    check_count("batch_size", batch_size)
    check_count("start_step", start_step, least=0)
    index, shards = checked_shard(shard, batch_size)
    batch_size, start_step = int(batch_size), int(start_step)
    seed = tf.constant(chosen_seed(seed), tf.int64)
    steps = count // batch_size if drop_remainder else -(-count // batch_size)
    if shards > 1 and not drop_remainder and 0 < count % batch_size < shards:
        raise ValueError(
            f"The last batch of a pass has fewer images than there are processes, {count % batch_size} for {shards}: "
            f"leave it out by `drop_remainder=True`. Received: batch_size={batch_size}, {count} images."
        )
    if not steps:
        raise ValueError(
            "`drop_remainder` leaves out the only batch: lower `batch_size` to the number of images or keep the "
            f"remainder. Received: batch_size={batch_size}, {count} images."
        )
    passed, begun = divmod(start_step, steps)

    def one_pass(number):
        order = tf.range(tf.constant(count, tf.int64))
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, tf.stack([seed, number]))
        start = tf.where(number == passed, tf.constant(begun, tf.int64), 0)
        batches = tf.data.Dataset.range(start, steps)
        return batches.map(lambda step: part(order[step * batch_size : (step + 1) * batch_size]))

    def part(batch):
        size = tf.size(batch)
        own = batch[size * index // shards : size * (index + 1) // shards]
        return tf.ensure_shape(own, (batch_size // shards,)) if drop_remainder else own

    if repeat:
        return (
            tf.data.Dataset.counter(passed)
            .flat_map(one_pass)
            .apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        )
    numbers = itertools.count(passed)  # one call into Python per pass
    ds = tf.data.Dataset.from_generator(lambda: [next(numbers)], output_signature=tf.TensorSpec((), tf.int64)).flat_map(
        one_pass
    )
    return ds if begun else ds.apply(tf.data.experimental.assert_cardinality(steps))
