import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp
from keras_provlae.datasets import GroundTruth, shapes3d
from keras_provlae.datasets.index_batches import index_batches


def draw(factors):
    """4 x 6 images with all pixels equal to the grid index / 29."""
    number = tf.cast(factors[:, 0] * 10 + factors[:, 1] * 5 + factors[:, 2], tf.float32) / 29
    return tf.ones((1, 4, 6, 1)) * number[:, tf.newaxis, tf.newaxis, tf.newaxis]


VALUES = {"a": range(3), "b": "xy", "c": np.linspace(0, 1, 5)}


@pytest.fixture(scope="module")
def truth():
    return GroundTruth(VALUES, (4, 6, 1), draw, "numbers", "drawn")


def numbers(images):
    """Grid indices of images."""
    return np.rint(29 * np.asarray(images)[:, 0, 0, 0]).astype(int)


def read(ds, batches=-1):
    return [numbers(batch) for batch in ds.take(batches).as_numpy_iterator()]


def test_factors_and_index_are_inverse_and_the_last_factor_is_fastest(truth):
    factors = truth.factors(np.arange(30))
    np.testing.assert_array_equal(factors, [[a, b, c] for a in range(3) for b in range(2) for c in range(5)])
    np.testing.assert_array_equal(truth.index(factors), np.arange(30))
    assert (len(truth), truth.factor_names, truth.factor_sizes) == (30, ("a", "b", "c"), (3, 2, 5))
    assert truth.factor_values[1].tolist() == ["x", "y"]


def test_leading_dimensions_are_kept(truth):
    assert truth.factors(7).shape == (3,)
    assert truth.index(truth.factors(7)) == 7
    assert truth.factors([[1, 2], [3, 4]]).shape == (2, 2, 3)
    assert truth.images(truth.factors([[1, 2], [3, 4]])).shape == (2, 2, 4, 6, 1)
    assert truth.images([0, 0, 0]).shape == (4, 6, 1)
    assert truth.images(np.zeros((0, 3), int)).shape == (0, 4, 6, 1)


def test_images_are_float32_and_match_their_factors(truth):
    order = np.random.default_rng(0).integers(30, size=3000)  # more than one rendered batch
    images = truth.images(truth.factors(order))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(numbers(images), order)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.factors(30), r"must be in 0 .. 29. Received: 30 .. 30"),
        (lambda t: t.factors([-1, 3]), r"Received: -1 .. 3"),
        (lambda t: t.factors(1.5), "`index` must be integers. Received: float64"),
        (lambda t: t.images([[0, 2, 0]]), r"The factor 'b' must be in 0 .. 1. Received: 2 .. 2"),
        (lambda t: t.index([0, 0, -1]), r"The factor 'c' must be in 0 .. 4. Received: -1 .. -1"),
        (lambda t: t.images([[0, 0]]), r"must have 3 columns, a, b, c. Received: shape \(1, 2\)"),
        (lambda t: t.images(0), r"Received: shape \(\)"),
        (lambda t: t.sample(31), "`n` must be at most 30.*Received: n=31"),
        (lambda t: t.sample(0), "`n` must be at least 1"),
        (lambda t: t.sample(3, seed=-1), "`seed` must be at least 0"),
        (lambda t: t.tf_dataset(subset=[3, 30]), "`subset` must be indices 0 .. 29"),
        (lambda t: t.tf_dataset(subset=[-1]), r"`subset` must be indices 0 .. 29.*Received: \[-1\]"),
        (lambda t: t.tf_dataset(subset="train"), r"`subset` must be indices 0 .. 29.*Received: 'train'"),
        (lambda t: t.tf_dataset(subset=True), "`subset` must be indices 0 .. 29.*Received: True"),
        (lambda t: t.tf_dataset(subset=[0.5]), "`subset` must be indices 0 .. 29"),
        (lambda t: t.tf_dataset(subset=31), "`subset` must be at most 30"),
        (lambda t: t.tf_dataset(subset=np.zeros(30, bool)), "`subset` must be 1-D and select at least one image"),
        (lambda t: t.tf_dataset(subset=[[1, 2]]), r"`subset` must be 1-D .*shape \(1, 2\)"),
        (lambda t: t.tf_dataset(12, shard=(0, 2)), "`shard` needs a `seed`.*Pass the same seed in every process"),
        (lambda t: t.downscale(4), "must divide height and width, 4 and 6. Received: times=4"),
        (lambda t: GroundTruth({}, (4, 4, 1), draw, "", ""), "at least one factor"),
        (lambda t: GroundTruth({"a": []}, (4, 4, 1), draw, "", ""), r"Received: \{'a': 0\}"),
        (lambda t: GroundTruth({"a": [1]}, (4, 4), draw, "", ""), r"\(height, width, channels\). Received: \(4, 4\)"),
    ],
)
def test_bad_arguments_are_rejected(truth, call, message):
    with pytest.raises(ValueError, match=message):
        call(truth)


def test_a_sample_has_no_repeats_and_depends_on_its_seed(truth):
    images, factors = truth.sample(20, seed=3)
    np.testing.assert_array_equal(numbers(images), truth.index(factors))
    assert len(set(numbers(images))) == 20
    np.testing.assert_array_equal(truth.sample(20, seed=3)[1], factors)
    assert not np.array_equal(truth.sample(20, seed=4)[1], factors)
    keras.utils.set_random_seed(1)
    unseeded = truth.sample(20)[1]
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(truth.sample(20)[1], unseeded)


def test_unshuffled_batches_are_in_grid_order(truth):
    ds = truth.tf_dataset(8, shuffle=False)
    assert len(ds) == 4
    assert [len(batch) for batch in read(ds)] == [8, 8, 8, 6]
    np.testing.assert_array_equal(np.concatenate(read(ds)), np.arange(30))


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 3, "start_step": 7, "repeat": True, "shard": (1, 3)},
        {"seed": 4, "drop_remainder": True},
        {"shuffle": False, "start_step": 1},
    ],
)
def test_batches_are_those_of_index_batches(truth, settings):
    """Every argument of the stream, on a subset."""
    rows = np.random.default_rng(0).permutation(30)[:23]
    ds = truth.tf_dataset(6, subset=rows, **settings)
    indices = list(index_batches(23, 6, **settings).take(9).as_numpy_iterator())
    assert ds.element_spec.shape[0] == (6 if "drop_remainder" in settings else None)
    for images, index in zip(read(ds, 9), indices, strict=True):
        np.testing.assert_array_equal(images, rows[index])


def test_skipped_batches_are_not_rendered(truth):
    rendered = []

    def render(factors):
        tf.py_function(lambda: rendered.append(1), [], [])
        return draw(factors)

    counted = GroundTruth(VALUES, (4, 6, 1), render, "numbers", "drawn")
    rendered.clear()  # the constructor checks the first image
    assert len(read(counted.tf_dataset(1, seed=0, start_step=29))) == 1
    assert len(rendered) == 1


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


def test_a_random_subset_is_drawn_once_and_differs_from_the_sample(truth):
    ds = truth.tf_dataset(8, seed=1, subset=12)
    one, other = (np.concatenate(read(ds)) for _ in range(2))
    assert len(set(one)) == 12
    assert sorted(one) == sorted(other)
    assert sorted(one) != sorted(truth.index(truth.sample(12, seed=1)[1]))


def test_factors_match_their_images(truth):
    ds = truth.tf_dataset(8, seed=0, with_factors=True)
    for images, factors in ds:
        np.testing.assert_array_equal(numbers(images), truth.index(factors))
    assert ds.element_spec == (tf.TensorSpec((None, 4, 6, 1), tf.float32), tf.TensorSpec((None, 3), tf.int64))


def test_rendering_makes_no_python_calls_per_image(truth):
    calls = []

    def render(factors):
        calls.append(1)
        return draw(factors)

    counted = GroundTruth({"a": range(30), "b": range(1), "c": range(1)}, (4, 6, 1), render, "numbers", "drawn")
    read(counted.tf_dataset(1, seed=0))
    counted.images(counted.factors(np.arange(30)))
    counted.images(counted.factors(np.arange(7)))
    assert len(calls) <= 3  # traces


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

    def test_rows_may_be_in_any_order(self):
        order = np.random.default_rng(0).permutation(6)
        truth = GroundTruth.from_arrays(self.images[order], self.factors[order], ["v", "h"], "mine", "disk")
        assert (truth.factor_sizes, truth.image_shape, truth.name, truth.source) == ((3, 2), (4, 5, 1), "mine", "disk")
        assert [values.tolist() for values in truth.factor_values] == [[10, 20, 40], [-0.5, 0.5]]
        images = truth.images(truth.factors(np.arange(6)))
        np.testing.assert_allclose(255 * images[:, 0, 0, 0], [1, 0, 3, 2, 5, 4], atol=1e-5)
        ds = truth.tf_dataset(6, shuffle=False)
        np.testing.assert_allclose(next(iter(ds)), images)

    def test_floats_are_not_scaled(self):
        truth = GroundTruth.from_arrays(self.images / 5, self.factors, ["v", "h"])
        np.testing.assert_allclose(truth.images([2, 0]), 1.0)
        assert truth.images([2, 0]).dtype == np.float32

    def test_booleans_are_0_and_1(self):
        truth = GroundTruth.from_arrays(self.images == 4, self.factors, ["v", "h"])
        assert truth.images(truth.factors(np.arange(6)))[:, 0, 0, 0].tolist() == [0, 0, 0, 0, 0, 1]

    def test_each_column_keeps_its_type(self):
        truth = GroundTruth.from_arrays(self.images, [[v, h] for v in (2, 10, 1) for h in "ab"], ["v", "h"])
        assert [values.tolist() for values in truth.factor_values] == [[1, 2, 10], ["a", "b"]]
        assert 255 * truth.images([2, 0]).max() == pytest.approx(2)

    def test_a_memory_map_is_read_on_demand(self, tmp_path):
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
            (images * 1.0, factors, ValueError, r"Received: 0.0 .. 5.0. Divide by 255\?"),
            (images / -5, factors, ValueError, r"\[0, 1\].*Received: -1.0 .. "),
            (images * np.nan, factors, ValueError, r"\[0, 1\].*Received: nan .. nan"),
            (images[:, 0], factors, ValueError, r"\(n, height, width, channels\). Received: shape \(6, 5\)"),
            (images[:0], factors[:0], ValueError, r"Received: shape \(0, 4, 5, 1\)"),
        ],
    )
    def test_images_that_do_not_form_a_grid_are_rejected(self, images, factors, error, message):
        with pytest.raises(error, match=message):
            GroundTruth.from_arrays(images, factors, ["v", "h"])

    def test_names_must_differ(self):
        with pytest.raises(ValueError, match=r"one distinct name per factor. Received: \['v', 'v'\]"):
            GroundTruth.from_arrays(self.images, self.factors, ["v", "v"])
        with pytest.raises(ValueError, match=r"Received: \[\]"):
            GroundTruth.from_arrays(self.images, np.zeros((6, 0)), [])

    def test_a_huge_grid_is_rejected_without_building_it(self):
        factors = np.random.default_rng(0).random((1000, 9))
        with pytest.raises(ValueError, match="pass `metrics.evaluate` the pair"):
            GroundTruth.from_arrays(np.zeros((1000, 2, 2)), factors, list("abcdefghi"))

    @pytest.mark.parametrize("height", [1, 3, 4])
    def test_channels_first_images_are_rejected(self, height):
        images = np.zeros((6, height, 5, 8))
        with pytest.raises(
            ValueError, match=rf"Received: shape \(6, {height}, 5, 8\). Transpose them with np.moveaxis"
        ):
            GroundTruth.from_arrays(images, self.factors, ["v", "h"])
        turned = GroundTruth.from_arrays(np.moveaxis(images, 1, -1), self.factors, ["v", "h"])
        assert turned.image_shape == (5, 8, height)
        meant = GroundTruth.from_arrays(images, self.factors, ["v", "h"], data_format="channels_last")
        assert meant.image_shape == (height, 5, 8)

    def test_channels_last_images_are_not_mistaken_for_channels_first(self):
        for shape in (6, 4, 5, 3), (6, 5, 4, 8), (6, 3, 8):
            assert GroundTruth.from_arrays(np.zeros(shape), self.factors, ["v", "h"])
        with pytest.raises(ValueError, match="'channels_first'. Transpose channels-first images"):
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
            lambda path: GroundTruth(VALUES, (4, 6, 1), draw, "numbers", "drawn"),
            2000,
        ),
        (lambda path: mapped(path, change=lambda images: images[3:13]), 2000),
        (lambda path: mapped(path, change=lambda images: images[3:13, 2:6, ::2]), 2000),
        (lambda path: mapped(path, "c", lambda images: np.invert(images, out=images)[:10]), 3000),
        (lambda path: mapped(path, change=lambda images: np.array(images[:10]) / 255), 8000),
        (lambda path: shapes3d("procedural").downscale(4).downscale(2), 3000),
    ],
    ids=["render", "mapped", "part of a map", "copy on write", "array", "twin"],
)
def test_a_ground_truth_can_be_pickled(tmp_path, make, most_bytes):
    truth = make(tmp_path / "images.npy")
    factors = truth.factors(np.random.default_rng(0).integers(len(truth), size=20))
    images = truth.images(factors)
    text = pickle.dumps(truth)
    assert len(text) < most_bytes  # no images of files or twins
    again = pickle.loads(text)
    np.testing.assert_array_equal(again.images(factors), images)
    assert repr(again) == repr(truth)
    for one, other in zip(again.factor_values, truth.factor_values, strict=True):
        np.testing.assert_array_equal(one, other)


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
def test_a_render_with_bad_images_is_rejected(render, error, message):
    with pytest.raises(error, match=message):
        GroundTruth({"a": range(3)}, (4, 6, 1), render, "numbers", "drawn")


def test_many_ground_truths_do_not_warn_about_retracing(caplog):
    for _ in range(12):
        GroundTruth({"a": range(3)}, (4, 6, 1), lambda f: tf.zeros((tf.shape(f)[0], 4, 6, 1)), "a", "b").images([0])
    assert "retracing" not in caplog.text


def test_numpy_integers_are_accepted(truth):
    assert [len(batch) for batch in read(truth.tf_dataset(np.uint8(8), np.int64(0), subset=np.int64(12)))] == [8, 4]


def test_errors_suggest_a_fix(truth):
    with pytest.raises(TypeError, match="Use `truth.images"):
        truth[0]
    with pytest.raises(TypeError, match="or `truth.tf_dataset"):
        list(truth)
    with pytest.raises(TypeError, match=r"must be a dict \{name: values\}. Received: list"):
        GroundTruth(["a"], (4, 6, 1), draw, "numbers", "drawn")


# === With a model ===


@pytest.fixture(scope="module")
def model():
    model = kp.ProgressiveVAE((4, 6, 1), num_rungs=1, latent_dim=2, channels=4, dense=8)
    model.compile(run_eagerly=True)
    return model


def test_a_metric_card_names_data_and_source(truth, model):
    card = kp.metrics.evaluate(model, truth, progress=False, include=["information_flow"])
    assert card.about["data"] == "numbers drawn"
    assert card.about["factors"] == ["a (3)", "b (2)", "c (5)"]


def test_fit_needs_batches(truth, model):
    with pytest.raises(TypeError, match=r"pass `truth.tf_dataset\(batch_size, seed=0\)`"):
        model.fit(truth)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_endless_data_need_steps(truth, model, method):
    """Keras would stay in the first epoch forever."""
    steps = "steps_per_epoch" if method == "fit" else "steps"
    ds = truth.tf_dataset(15, seed=0, repeat=True)
    with pytest.raises(ValueError, match=f"pass `{steps}`"):
        getattr(model, method)(ds, verbose=0)
    getattr(model, method)(ds, verbose=0, **{steps: 1})
