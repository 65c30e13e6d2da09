import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_provlae.datasets.index_batches import index_batches


def read(ds, batches=-1):
    return list(ds.take(batches).as_numpy_iterator())


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(batch, other)


def test_without_shuffling_the_order_is_ascending():
    assert_same(read(index_batches(30, 8, shuffle=False)), np.split(np.arange(30), [8, 16, 24]))


def test_each_epoch_has_every_index_once_in_a_new_order():
    ds = index_batches(30, 8, seed=0)
    assert len(ds) == 4
    epochs = [read(ds) for _ in range(3)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [8, 8, 8, 6]
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), np.arange(30))
    assert len({tuple(np.concatenate(epoch)) for epoch in epochs}) == 3
    repeated = index_batches(30, 8, seed=0).repeat()
    assert int(repeated.cardinality()) == tf.data.INFINITE_CARDINALITY
    assert_same(read(repeated, 12), sum(epochs[1:], epochs[0]))


def test_the_stream_depends_only_on_its_seed_and_without_one_on_the_global_seed():
    def order(global_seed, seed):
        keras.utils.set_random_seed(global_seed)
        return next(iter(index_batches(30, 30, seed, repeat=True))).numpy().tolist()

    assert order(0, 5) == order(1, 5)
    assert order(0, None) == order(0, None) != order(1, None)


def test_every_order_is_equally_likely():
    """Each of the 24 orders of four indices is a 24th of 600 epochs: chi-squared, 23 degrees of freedom."""
    orders = [tuple(order) for order in read(index_batches(4, 4, seed=0, repeat=True), 600)]
    count = np.array([orders.count(order) for order in set(orders)])
    assert len(count) == 24
    assert ((count - 25) ** 2 / 25).sum() < 49.7  # 0.1 %


def test_epochs_of_different_seeds_differ():
    epochs = {tuple(order) for seed in range(4) for order in read(index_batches(30, 30, seed, repeat=True), 4)}
    assert len(epochs) == 16


def test_a_stream_resumes_at_its_start_step():
    whole = read(index_batches(30, 8, seed=2, repeat=True), 14)
    for start in 1, 4, 9:
        assert_same(read(index_batches(30, 8, seed=2, start_step=start, repeat=True), 14 - start), whole[start:])
    assert_same(read(index_batches(30, 8, seed=2, start_step=9).repeat(), 5), whole[9:])


def test_the_length_is_known_unless_an_epoch_starts_in_the_middle():
    assert len(index_batches(30, 8, start_step=4)) == 4
    assert int(index_batches(30, 8, start_step=3).cardinality()) == tf.data.UNKNOWN_CARDINALITY
    assert int(index_batches(30, 8, start_step=3).repeat().cardinality()) == tf.data.INFINITE_CARDINALITY


def test_every_iteration_of_an_endless_stream_is_the_same():
    ds = index_batches(30, 8, seed=2, repeat=True)
    assert int(ds.cardinality()) == tf.data.INFINITE_CARDINALITY
    assert_same(read(ds, 10), read(ds, 10))


def test_dropping_the_remainder_leaves_full_batches_of_static_size():
    ds = index_batches(30, 12, seed=0, drop_remainder=True)
    assert (len(ds), ds.element_spec.shape[0]) == (2, 12)
    assert index_batches(30, 12, seed=0, drop_remainder=True, shard=(0, 3)).element_spec.shape[0] == 4
    first, second = read(ds), read(ds)
    assert_same(first, read(index_batches(30, 12, seed=0), 2))
    assert_same(first + second, read(index_batches(30, 12, seed=0, drop_remainder=True, repeat=True), 4))


@pytest.mark.parametrize(
    "settings",
    [{}, {"drop_remainder": True, "start_step": 2}, {"repeat": True, "start_step": 7}],
    ids=["epoch", "full batches", "endless"],
)
def test_shards_join_to_the_batches_of_one_process(settings):
    alone = index_batches(31, 12, seed=3, **settings)
    shards = [index_batches(31, 12, seed=3, **settings, shard=(index, 3)) for index in range(3)]
    assert {int(shard.cardinality()) for shard in shards} == {int(alone.cardinality())}
    for _ in range(1 if settings else 2):  # two epochs
        whole, steps = read(alone, 6), list(zip(*(read(shard, 6) for shard in shards), strict=True))
        assert len(whole) > 0
        assert_same([np.concatenate(step) for step in steps], whole)
        for step in steps:
            sizes = [len(part) for part in step]
            assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"batch_size": "12"}, TypeError, "`batch_size` must be an integer. Received: batch_size='12'"),
        ({"start_step": -1}, ValueError, "`start_step` must be at least 0"),
        ({"seed": 2**63}, ValueError, "must be less than 2"),
        ({"shard": (2, 2)}, ValueError, r"0 <= index < count. Received: shard=\(2, 2\)"),
        ({"shard": (-1, 2)}, ValueError, "0 <= index < count"),
        ({"shard": (0, 0)}, ValueError, "0 <= index < count"),
        ({"shard": 2}, TypeError, r"`shard` must be a pair of integers \(index, count\).*Received: shard=2"),
        ({"shard": (0, 2.0)}, TypeError, "must be a pair of integers"),
        ({"shard": (0, 5)}, ValueError, "divisible by their number 5. Received: batch_size=12"),
        (
            {"count": 26, "shard": (0, 3)},
            ValueError,
            "one image per process. Received: 2 for 3 .*`drop_remainder=True`",
        ),
        ({"count": 11, "drop_remainder": True}, ValueError, "one full batch. Received: batch_size=12, 11 images"),
    ],
)
def test_bad_arguments_are_rejected(settings, error, message):
    with pytest.raises(error, match=message):
        index_batches(**{"count": 30, "batch_size": 12, "seed": 0, **settings})
