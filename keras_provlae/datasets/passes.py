"""Passes over numbered images: each image once, in an order drawn anew for each pass."""

import itertools

import tensorflow as tf

from keras_provlae.datasets.checks import check_count, chosen_seed


def index_batches(
    count: int, batch_size: int, seed: int | None = None, shuffle: bool = True, start_step: int = 0
) -> tf.data.Dataset:
    """Batches of the numbers 0 .. count - 1; every iteration over the data set is the next pass.

    The order is a function of the seed and the number of the pass, and of nothing else: a new data set with the same
    seed gives the same stream, whatever the global seed is, and a later part of the stream costs nothing to reach.

    Args:
        count: Int >= 1.
        batch_size: Int >= 1. The last batch of a pass may be smaller.
        seed: Int or `None`: drawn, as `keras.utils.set_random_seed` decides.
        shuffle: Bool. `False` is ascending order.
        start_step: Int >= 0. Batches of the stream to leave out.

    Returns:
        A `tf.data.Dataset` of int64 `(batch,)`. It knows its length unless it starts amid a pass.

    Raises:
        TypeError, ValueError: If an argument is unfit.
    """
    check_count("batch_size", batch_size)
    check_count("start_step", start_step, least=0)
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

    numbers = itertools.count(passed)  # one call into Python per pass
    ds = tf.data.Dataset.from_generator(lambda: [next(numbers)], output_signature=tf.TensorSpec((), tf.int64)).flat_map(
        one_pass
    )
    return ds if begun else ds.apply(tf.data.experimental.assert_cardinality(steps))
