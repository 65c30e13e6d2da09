import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp
from keras_provlae.datasets import GroundTruth, shapes3d

SIZES = (3, 2, 5)


def draw(factors):
    """4 x 6 images whose every pixel says which image it is."""
    number = tf.cast(factors[:, 0] * 10 + factors[:, 1] * 5 + factors[:, 2], tf.float32) / 29
    return tf.ones((1, 4, 6, 1)) * number[:, tf.newaxis, tf.newaxis, tf.newaxis]


@pytest.fixture
def truth():
    values = {"a": range(3), "b": "xy", "c": np.linspace(0, 1, 5)}
    return GroundTruth(values, (4, 6, 1), draw, "numbers", "drawn")


def numbers(images):
    return np.rint(29 * np.asarray(images)[:, 0, 0, 0]).astype(int)


def read(ds, batches=None):
    return [numbers(batch) for batch in ds.take(batches if batches else -1).as_numpy_iterator()]


def test_factors_and_index_are_inverse_and_the_last_factor_is_fastest(truth):
    factors = truth.factors(np.arange(30))
    np.testing.assert_array_equal(factors, [[a, b, c] for a in range(3) for b in range(2) for c in range(5)])
    np.testing.assert_array_equal(truth.index(factors), np.arange(30))
    assert (len(truth), truth.factor_names, truth.factor_sizes) == (30, ("a", "b", "c"), SIZES)
    assert truth.factor_values[1].tolist() == ["x", "y"]


def test_shapes_follow_those_of_the_index(truth):
    assert truth.factors(7).shape == (3,)
    assert truth.index(truth.factors(7)) == 7
    assert truth.factors([[1, 2], [3, 4]]).shape == (2, 2, 3)
    assert truth.images(truth.factors([[1, 2], [3, 4]])).shape == (2, 2, 4, 6, 1)
    assert truth.images([0, 0, 0]).shape == (4, 6, 1)
    assert truth.images(np.zeros((0, 3), int)).shape == (0, 4, 6, 1)


def test_images_are_float32_and_those_of_their_factors(truth):
    order = np.random.default_rng(0).integers(30, size=3000)  # more than are rendered at once
    images = truth.images(truth.factors(order))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(numbers(images), order)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.factors(30), r"must lie in 0 .. 29. Received: 30 .. 30"),
        (lambda t: t.factors([-1, 3]), r"Received: -1 .. 3"),
        (lambda t: t.factors(1.5), "`index` must be integers. Received: float64"),
        (lambda t: t.images([[0, 2, 0]]), r"The factor 'b' must lie in 0 .. 1. Received: 2 .. 2"),
        (lambda t: t.index([0, 0, -1]), r"The factor 'c' must lie in 0 .. 4. Received: -1 .. -1"),
        (lambda t: t.images([[0, 0]]), r"must have 3 columns, a, b, c. Received: shape \(1, 2\)"),
        (lambda t: t.images(0), r"Received: shape \(\)"),
        (lambda t: t.sample(31), "`n` must be at most 30.*Received: n=31"),
        (lambda t: t.sample(0), "`n` must be at least 1"),
        (lambda t: t.sample(3, seed=-1), "`seed` must be at least 0"),
        (lambda t: t.tf_dataset(0), "`batch_size` must be at least 1"),
        (lambda t: t.tf_dataset(start_step=-1), "`start_step` must be at least 0"),
        (lambda t: t.tf_dataset(subset=[3, 30]), "`subset` must be indices 0 .. 29"),
        (lambda t: t.tf_dataset(subset=[-1]), r"`subset` must be indices 0 .. 29.*Received: \[-1\]"),
        (lambda t: t.tf_dataset(subset="train"), r"`subset` must be indices 0 .. 29.*Received: 'train'"),
        (lambda t: t.tf_dataset(subset=True), "`subset` must be indices 0 .. 29.*Received: True"),
        (lambda t: t.tf_dataset(subset=[0.5]), "`subset` must be indices 0 .. 29"),
        (lambda t: t.tf_dataset(subset=31), "`subset` must be at most 30"),
        (lambda t: t.tf_dataset(subset=np.zeros(30, bool)), "`subset` must choose at least one image"),
        (lambda t: t.tf_dataset(subset=[[1, 2]]), r"a choice of shape \(1, 2\)"),
        (lambda t: t.tf_dataset(seed=2**63), "must be less than 2"),
        (lambda t: t.downscale(4), "must divide height and width, 4 and 6. Received: times=4"),
        (lambda t: GroundTruth({}, (4, 4, 1), draw, "", ""), "at least one factor"),
        (lambda t: GroundTruth({"a": []}, (4, 4, 1), draw, "", ""), r"Received: \{'a': 0\}"),
        (lambda t: GroundTruth({"a": [1]}, (4, 4), draw, "", ""), r"\(height, width, channels\). Received: \(4, 4\)"),
    ],
)
def test_bad_input_is_refused_where_it_is_given(truth, call, message):
    with pytest.raises(ValueError, match=message):
        call(truth)


def test_a_sample_is_drawn_by_its_seed_without_repeats(truth):
    images, factors = truth.sample(20, seed=3)
    np.testing.assert_array_equal(numbers(images), truth.index(factors))
    assert len(set(numbers(images))) == 20
    np.testing.assert_array_equal(truth.sample(20, seed=3)[1], factors)
    assert not np.array_equal(truth.sample(20, seed=4)[1], factors)
    keras.utils.set_random_seed(1)
    unseeded = truth.sample(20)[1]
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(truth.sample(20)[1], unseeded)


def test_the_grid_in_order(truth):
    ds = truth.tf_dataset(batch_size=8, shuffle=False)
    assert [len(batch) for batch in read(ds)] == [8, 8, 8, 6]
    np.testing.assert_array_equal(np.concatenate(read(ds)), np.arange(30))


def test_every_pass_has_every_image_once_in_a_new_order(truth):
    ds = truth.tf_dataset(batch_size=8, seed=0)
    passes = [np.concatenate(read(ds)) for _ in range(3)]
    for one in passes:
        np.testing.assert_array_equal(np.sort(one), np.arange(30))
    assert len({tuple(one) for one in passes}) == 3
    repeated = np.concatenate(read(truth.tf_dataset(batch_size=8, seed=0).repeat(), 12))
    np.testing.assert_array_equal(repeated, np.concatenate(passes))


def test_the_stream_depends_on_its_seed_and_on_nothing_else(truth):
    streams = []
    for global_seed, seed in ((0, 5), (1, 5), (0, 6)):
        keras.utils.set_random_seed(global_seed)
        streams.append(np.concatenate(read(truth.tf_dataset(4, seed=seed).repeat(), 20)))
    np.testing.assert_array_equal(streams[0], streams[1])
    assert not np.array_equal(streams[0], streams[2])


def test_without_a_seed_the_global_one_decides(truth):
    streams = []
    for global_seed in 0, 0, 1:
        keras.utils.set_random_seed(global_seed)
        streams.append(np.concatenate(read(truth.tf_dataset(4))))
    np.testing.assert_array_equal(streams[0], streams[1])
    assert not np.array_equal(streams[0], streams[2])


def test_every_order_is_equally_likely():
    """Of 24 orders of four images, each comes up in a 24th of 1,200 passes: chi-squared, 23 degrees of freedom."""
    truth = GroundTruth({"a": range(4)}, (1, 1, 1), lambda f: tf.cast(f[:, :, None, None], tf.float32), "four", "drawn")
    ds = truth.tf_dataset(4, seed=0, with_factors=True).map(lambda images, factors: factors[:, 0])
    orders = [tuple(order) for order in ds.repeat().take(1200).as_numpy_iterator()]
    count = np.array([orders.count(order) for order in set(orders)])
    assert len(count) == 24
    assert ((count - 50) ** 2 / 50).sum() < 49.7  # 0.1 %


@pytest.mark.parametrize("start", [1, 4, 6, 9])
def test_a_stream_goes_on_where_it_stopped(truth, start):
    whole = read(truth.tf_dataset(8, seed=2).repeat(), 14)
    for later in (
        truth.tf_dataset(8, seed=2, start_step=start).repeat(),
        truth.tf_dataset(8, seed=2, start_step=start, repeat=True),
    ):
        for one, other in zip(whole[start:], read(later, 14 - start), strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_endless_stream_begins_anew_with_every_iteration(truth):
    ds = truth.tf_dataset(8, seed=2, repeat=True)
    one, other = (np.concatenate(read(ds, 10)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert int(ds.cardinality()) == tf.data.INFINITE_CARDINALITY


def test_a_seed_is_no_later_pass_of_another(truth):
    passes = {
        tuple(np.concatenate(read(truth.tf_dataset(8, seed=seed, start_step=4 * number)))): (seed, number)
        for seed in range(4) for number in range(4)
    }  # fmt: skip
    assert len(passes) == 16


def test_what_is_left_out_at_the_start_is_not_rendered(truth):
    rendered = []

    def render(factors):
        tf.py_function(lambda: rendered.append(1), [], [])
        return draw(factors)

    counted = GroundTruth({"a": range(3), "b": range(2), "c": range(5)}, (4, 6, 1), render, "numbers", "drawn")
    rendered.clear()  # of the check of the first image
    assert len(read(counted.tf_dataset(1, seed=0, start_step=29))) == 1
    assert len(rendered) == 1


def test_its_length_is_known_so_that_rungs_can_share_the_epochs(truth):
    assert len(truth.tf_dataset(8)) == 4
    assert len(truth.tf_dataset(8, start_step=4)) == 4
    assert int(truth.tf_dataset(8).repeat().cardinality()) == tf.data.INFINITE_CARDINALITY
    assert int(truth.tf_dataset(8, start_step=3).repeat().cardinality()) == tf.data.INFINITE_CARDINALITY


@pytest.mark.parametrize(
    ("subset", "expected"),
    [
        ([4, 2, 4], [4, 2, 4]),
        (slice(20, None), list(range(20, 30))),
        (np.arange(30) % 2 == 1, list(range(1, 30, 2))),
        ((5, 3), [5, 3]),
        (range(3), [0, 1, 2]),
    ],
)
def test_a_subset(truth, subset, expected):
    assert np.concatenate(read(truth.tf_dataset(8, subset=subset, shuffle=False))).tolist() == expected
    assert sorted(np.concatenate(read(truth.tf_dataset(8, subset=subset)))) == sorted(expected)


def test_a_subset_by_number_is_drawn_once_and_is_not_that_of_sample(truth):
    ds = truth.tf_dataset(8, seed=1, subset=12)
    one, other = (np.concatenate(read(ds)) for _ in range(2))
    assert len(set(one)) == 12
    assert sorted(one) == sorted(other)
    assert sorted(one) != sorted(truth.index(truth.sample(12, seed=1)[1]))


def test_factors_come_with_their_images(truth):
    for images, factors in truth.tf_dataset(8, seed=0, with_factors=True):
        np.testing.assert_array_equal(numbers(images), truth.index(factors))
    spec = truth.tf_dataset(8, with_factors=True).element_spec
    assert spec == (tf.TensorSpec((None, 4, 6, 1), tf.float32), tf.TensorSpec((None, 3), tf.int64))


def test_a_batch_costs_no_python_per_image(truth):
    calls = []

    def render(factors):
        calls.append(1)
        return draw(factors)

    counted = GroundTruth({"a": range(30), "b": range(1), "c": range(1)}, (4, 6, 1), render, "numbers", "drawn")
    read(counted.tf_dataset(1, seed=0).repeat(), 300)
    counted.images(counted.factors(np.arange(30)))
    counted.images(counted.factors(np.arange(7)))
    assert len(calls) <= 3  # traced, never called


def test_downscaled_pixels_are_means_of_blocks():
    rng = np.random.default_rng(0)
    images = rng.random((6, 4, 6, 2), "float32")
    factors = [[a, b] for a in range(2) for b in range(3)]
    small = GroundTruth.from_arrays(images, factors, ["a", "b"], "noise").downscale(2)
    expected = [[images[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2)) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(small.images(factors), np.moveaxis(expected, 2, 0), rtol=1e-6)
    assert (small.name, small.source, small.image_shape) == ("noise 2x3", "arrays", (2, 3, 2))
    assert shapes3d("procedural").downscale(2).downscale(4).name == "shapes3d 8x8"


class TestFromArrays:
    factors = np.array([[v, h] for v in (10, 20, 40) for h in (0.5, -0.5)])
    images = np.arange(6, dtype="uint8")[:, np.newaxis, np.newaxis] * np.ones((4, 5), "uint8")

    def test_rows_come_in_any_order(self):
        order = np.random.default_rng(0).permutation(6)
        truth = GroundTruth.from_arrays(self.images[order], self.factors[order], ["v", "h"], "mine", "disk")
        assert (truth.factor_sizes, truth.image_shape, truth.name, truth.source) == ((3, 2), (4, 5, 1), "mine", "disk")
        assert [values.tolist() for values in truth.factor_values] == [[10, 20, 40], [-0.5, 0.5]]
        images = truth.images(truth.factors(np.arange(6)))
        np.testing.assert_allclose(255 * images[:, 0, 0, 0], [1, 0, 3, 2, 5, 4], atol=1e-5)
        ds = truth.tf_dataset(6, shuffle=False)
        np.testing.assert_allclose(next(iter(ds)), images)

    def test_floats_stay_as_they_are(self):
        truth = GroundTruth.from_arrays(self.images / 5, self.factors, ["v", "h"])
        np.testing.assert_allclose(truth.images([2, 0]), 1.0)
        assert truth.images([2, 0]).dtype == np.float32

    def test_booleans_are_0_and_1(self):
        truth = GroundTruth.from_arrays(self.images == 4, self.factors, ["v", "h"])
        assert truth.images(truth.factors(np.arange(6)))[:, 0, 0, 0].tolist() == [0, 0, 0, 0, 0, 1]

    def test_columns_of_rows_keep_their_types(self):
        truth = GroundTruth.from_arrays(self.images, [[v, h] for v in (2, 10, 1) for h in "ab"], ["v", "h"])
        assert [values.tolist() for values in truth.factor_values] == [[1, 2, 10], ["a", "b"]]
        assert 255 * truth.images([2, 0]).max() == pytest.approx(2)

    def test_a_memory_map_is_read_when_asked_for(self, tmp_path):
        np.save(tmp_path / "images.npy", self.images)
        images = np.load(tmp_path / "images.npy", mmap_mode="r+")
        truth = GroundTruth.from_arrays(images, self.factors, ["v", "h"])
        images[1] = 255
        np.testing.assert_allclose(truth.images([0, 0]), 1.0)

    @pytest.mark.parametrize(
        ("images", "factors", "error", "message"),
        [
            (images[:5], factors[:5], ValueError, "3 v x 2 h = 6. Received: 5 rows, 0 of them with v 40.0, h -0.5"),
            (images, factors[[0, 0, 2, 3, 4, 5]], ValueError, "0 of them with v 10.0, h -0.5"),
            (np.repeat(images, 2, 0), np.repeat(factors, 2, 0), ValueError, "12 rows, 2 of them with v 10.0, h -0.5"),
            (images, factors[:, :1], ValueError, r"factors \(6, 1\), 6 images, names \['v', 'h'\]"),
            (images, factors[:5], ValueError, r"factors \(5, 2\)"),
            (images.astype("int32"), factors, TypeError, "must be uint8, floats or Booleans. Received: int32"),
            (images * 1.0, factors, ValueError, r"divide by 255\? Received: 0.0 .. 5.0"),
            (images / -5, factors, ValueError, r"\[0, 1\].*Received: -1.0 .. "),
            (images * np.nan, factors, ValueError, r"\[0, 1\].*Received: nan .. nan"),
            (images[:, 0], factors, ValueError, r"\(n, height, width, channels\). Received: shape \(6, 5\)"),
            (images[:0], factors[:0], ValueError, r"Received: shape \(0, 4, 5, 1\)"),
        ],
    )
    def test_what_is_no_grid_is_refused(self, images, factors, error, message):
        with pytest.raises(error, match=message):
            GroundTruth.from_arrays(images, factors, ["v", "h"])

    def test_names_differ(self):
        with pytest.raises(ValueError, match=r"no two the same. Received: \['v', 'v'\]"):
            GroundTruth.from_arrays(self.images, self.factors, ["v", "v"])
        with pytest.raises(ValueError, match=r"Received: \[\]"):
            GroundTruth.from_arrays(self.images, np.zeros((6, 0)), [])

    def test_many_values_of_many_factors_take_no_memory(self):
        factors = np.random.default_rng(0).random((1000, 9))
        with pytest.raises(ValueError, match="give `metrics.evaluate` the pair"):
            GroundTruth.from_arrays(np.zeros((1000, 2, 2)), factors, list("abcdefghi"))

    @pytest.mark.parametrize("height", [1, 3, 4])
    def test_channels_first_are_told_to_turn(self, height):
        images = np.zeros((6, height, 5, 8))
        with pytest.raises(
            ValueError, match=rf"transpose them with np.moveaxis.*Received: shape \(6, {height}, 5, 8\)"
        ):
            GroundTruth.from_arrays(images, self.factors, ["v", "h"])
        turned = GroundTruth.from_arrays(np.moveaxis(images, 1, -1), self.factors, ["v", "h"])
        assert turned.image_shape == (5, 8, height)
        meant = GroundTruth.from_arrays(images, self.factors, ["v", "h"], data_format="channels_last")
        assert meant.image_shape == (height, 5, 8)

    def test_small_images_and_many_channels_are_not_taken_for_channels_first(self):
        for shape in (6, 4, 5, 3), (6, 5, 4, 8), (6, 3, 8):
            assert GroundTruth.from_arrays(np.zeros(shape), self.factors, ["v", "h"])
        with pytest.raises(ValueError, match="transpose images that have their channels first.*'channels_first'"):
            GroundTruth.from_arrays(self.images, self.factors, ["v", "h"], data_format="channels_first")


def mapped(path, mode="r+", change=lambda images: images):
    np.save(path, np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype("uint8"))
    return GroundTruth.from_arrays(
        change(np.load(path, mmap_mode=mode)), [[a, b] for a in range(5, 0, -1) for b in range(2)], ["a", "b"]
    )


@pytest.mark.parametrize(
    ("make", "most_bytes"),
    [
        (
            lambda path: GroundTruth({"a": range(3), "b": "xy", "c": range(5)}, (4, 6, 1), draw, "numbers", "drawn"),
            2000,
        ),
        (lambda path: mapped(path, change=lambda images: images[3:13]), 2000),
        (lambda path: mapped(path, change=lambda images: images[3:13, 2:6, ::2]), 2000),
        (lambda path: mapped(path, "c", lambda images: images[:10]), 3000),
        (lambda path: mapped(path, change=lambda images: np.array(images[:10]) / 255), 8000),
        (lambda path: shapes3d("procedural").downscale(4).downscale(2), 3000),
    ],
    ids=["render", "mapped", "part of a map", "copy on write", "array", "twin"],
)
def test_a_ground_truth_is_pickled(tmp_path, make, most_bytes):
    truth = make(tmp_path / "images.npy")
    factors = truth.factors(np.random.default_rng(0).integers(len(truth), size=20))
    images = truth.images(factors)
    text = pickle.dumps(truth)
    assert len(text) < most_bytes  # no image of a file or a twin is in it
    again = pickle.loads(text)
    np.testing.assert_array_equal(again.images(factors), images)
    assert repr(again) == repr(truth)
    for one, other in zip(again.factor_values, truth.factor_values, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_card_names_data_and_source(truth, make_model):
    model = make_model(image_shape=(4, 6, 1), num_rungs=1)
    card = kp.metrics.evaluate(model, truth, progress=False, include=["information_flow"])
    assert card.about["data"] == "numbers drawn"
    assert card.about["factors"] == ["a (3)", "b (2)", "c (5)"]


def test_a_model_trains_on_it_through_all_stages(truth, make_model):
    model = make_model(image_shape=(8, 12, 1))
    values = {"a": range(3), "b": range(2), "c": range(5)}
    larger = GroundTruth(values, (8, 12, 1), lambda f: tf.repeat(tf.repeat(draw(f), 2, 1), 2, 2), "numbers", "drawn")
    model.compile()
    model.fit(larger.tf_dataset(8, seed=0), epochs=3, verbose=0, callbacks=[kp.GrowthCallback()])
    assert (model.stage, model.iteration) == (2, 12)


@pytest.mark.parametrize(
    ("render", "error", "message"),
    [
        (
            lambda f: tf.zeros((tf.shape(f)[0], 4, 6, 1), tf.float64),
            TypeError,
            "must return float32 images. Received: float64",
        ),
        (lambda f: tf.zeros((tf.shape(f)[0], 1, 1, 1)), ValueError, "Shapes are .*4,6,1. and .*1,1,1"),
        (lambda f: 255 * tf.ones((tf.shape(f)[0], 4, 6, 1)), ValueError, r"in \[0, 1\]. Received: 255.0 .. 255.0"),
    ],
)
def test_a_render_of_other_images_is_refused(render, error, message):
    with pytest.raises(error, match=message):
        GroundTruth({"a": range(3)}, (4, 6, 1), render, "numbers", "drawn")


def test_many_ground_truths_are_no_reason_to_warn(caplog):
    for _ in range(12):
        GroundTruth({"a": range(3)}, (4, 6, 1), lambda f: tf.zeros((tf.shape(f)[0], 4, 6, 1)), "a", "b").images([0])
    assert "retracing" not in caplog.text


def test_numbers_of_numpy_are_numbers(truth):
    assert [len(batch) for batch in read(truth.tf_dataset(np.uint8(8), np.int64(0), subset=np.int64(12)))] == [8, 4]


def test_mistakes_are_told_the_way_out(truth, make_model):
    with pytest.raises(TypeError, match="take `truth.images"):
        truth[0]
    with pytest.raises(TypeError, match="or `truth.tf_dataset"):
        list(truth)
    with pytest.raises(TypeError, match="`batch_size` must be an integer. Received: batch_size='12'"):
        truth.tf_dataset("12")
    with pytest.raises(TypeError, match=r"must be a dict \{name: values\}. Received: list"):
        GroundTruth(["a"], (4, 6, 1), draw, "numbers", "drawn")
    model = make_model(image_shape=(8, 8, 1))
    model.compile()
    with pytest.raises(TypeError, match=r"pass `truth.tf_dataset\(batch_size, seed=0\)`"):
        model.fit(truth)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_data_without_an_end_need_steps(make_model, method):
    """Keras would go on in the first epoch for ever."""
    model = make_model(num_rungs=1)
    model.compile()
    ds = tf.data.Dataset.from_tensors(np.zeros((2, 8, 8, 1), "float32")).repeat()
    with pytest.raises(ValueError, match="has no end: pass `steps"):
        getattr(model, method)(ds, verbose=0)
    getattr(model, method)(ds, verbose=0, **{"steps_per_epoch" if method == "fit" else "steps": 2})


# === Parts for several processes ===


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 3},
        {"seed": 3, "drop_remainder": True, "start_step": 2},
        {"seed": 3, "subset": 23, "repeat": True, "start_step": 7},
    ],
    ids=["pass", "whole batches", "endless"],
)
def test_the_parts_of_a_step_are_what_one_process_reads_at_it(truth, count, settings):
    alone = truth.tf_dataset(12, **settings)
    parts = [truth.tf_dataset(12, **settings, shard=(index, count)) for index in range(count)]
    assert {int(part.cardinality()) for part in parts} == {int(alone.cardinality())}
    for _ in range(2):  # two passes, or the beginning of the endless stream twice
        whole, steps = read(alone, 6), list(zip(*(read(part, 6) for part in parts), strict=True))
        assert len(whole) == len(steps) > 0
        for batch, step in zip(whole, steps, strict=True):
            np.testing.assert_array_equal(np.concatenate(step), batch)
            sizes = [len(part) for part in step]
            assert max(sizes) - min(sizes) <= 1


def test_dropping_the_remainder_leaves_whole_batches_of_a_known_size(truth):
    ds = truth.tf_dataset(12, seed=0, drop_remainder=True)
    assert (len(ds), ds.element_spec.shape[0]) == (2, 12)
    assert truth.tf_dataset(12, seed=0, drop_remainder=True, shard=(0, 3)).element_spec.shape[0] == 4
    np.testing.assert_array_equal(read(ds), read(truth.tf_dataset(12, seed=0), 2))  # the next step is another pass
    second = read(truth.tf_dataset(12, seed=0, drop_remainder=True, repeat=True), 3)[2]
    np.testing.assert_array_equal(second, read(ds)[0])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"shard": (2, 2)}, ValueError, r"0 <= index < count: processes are numbered from 0. Received: shard=\(2, 2\)"),
        ({"shard": (-1, 2)}, ValueError, "0 <= index < count"),
        ({"shard": (0, 0)}, ValueError, "0 <= index < count"),
        ({"shard": 2}, TypeError, r"`shard` must be a pair of integers \(index, count\).*Received: shard=2"),
        ({"shard": (0, 2.0)}, TypeError, "must be a pair of integers"),
        ({"shard": (0, 5)}, ValueError, "divisible by their number 5. Received: batch_size=12"),
        ({"shard": (0, 2), "seed": None}, ValueError, "`shard` needs a `seed`, the same in every process"),
        ({"shard": (0, 3), "subset": 26}, ValueError, "fewer images than there are processes, 2 for 3: leave it out"),
        ({"subset": 11, "drop_remainder": True}, ValueError, "leaves out the only batch.*batch_size=12, 11 images"),
    ],
)
def test_unfit_parts_are_refused_at_once(truth, settings, error, message):
    with pytest.raises(error, match=message):
        truth.tf_dataset(12, **{"seed": 0, **settings})
