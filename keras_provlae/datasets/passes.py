"""Passes over numbered images: each image once, in an order drawn anew for each pass."""

import itertools

import tensorflow as tf

from keras_provlae.datasets.checks import check_count, chosen_seed


def index_batches(
    count: int,
    batch_size: int,
    seed: int | None = None,
    shuffle: bool = True,
    start_step: int = 0,
    repeat: bool = False,
) -> tf.data.Dataset:
    """Batches of the numbers 0 .. count - 1: a pass for each iteration over the data set, or passes without an end.

    The order is a function of the seed and the number of the pass, and of nothing else: a new data set with the same
    seed gives the same stream, whatever the global seed is, and a later part of the stream costs nothing to reach.

    Args:
        count: Int >= 1.
        batch_size: Int >= 1. The last batch of a pass may be smaller.
        seed: Int or `None`: drawn, as `keras.utils.set_random_seed` decides.
        shuffle: Bool. `False` is ascending order.
        start_step: Int >= 0. Batches of the stream to leave out.
        repeat: Bool. `False`: an iteration is a pass, and the next iteration the next pass. `True`: every iteration is
            the whole endless stream from `start_step` on.

    Returns:
        A `tf.data.Dataset` of int64 `(batch,)`. It knows its length unless it is one pass that starts amid.

    Raises:
        TypeError, ValueError: If an argument is unfit.
    """
    check_count("batch_size", batch_size)
    check_count("start_step", start_step, least=0)
    batch_size, start_step = int(batch_size), int(start_step)
    seed = tf.constant(chosen_seed(seed), tf.int64)
    steps = -(-count // batch_size)
    passed, begun = divmod(start_step, steps)

    def one_pass(number):
        order = tf.range(tf.constant(count, tf.int64))
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, tf.stack([seed, number]))
        start = tf.where(number == passed, tf.constant(begun, tf.int64), 0)
        batches = tf.data.Dataset.range(start, steps)
        return batches.map(lambda step: order[step * batch_size : (step + 1) * batch_size])

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
