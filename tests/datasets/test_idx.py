import gzip

import numpy as np
import pytest

from keras_provlae.datasets import load_idx_folder, read_idx


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype("uint8").tobytes()


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (6, 5, 4)), rng.integers(0, 10, 6)


def write_folder(folder, arrays, names=("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")):
    for name, array in zip(names, arrays, strict=True):
        content = idx_bytes(array)
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dot", ["-", "."])
def test_all_published_file_names_are_found(tmp_path, arrays, dot, suffix):
    names = (f"t10k-images{dot}idx3-ubyte{suffix}", f"t10k-labels{dot}idx1-ubyte{suffix}")
    images, labels = load_idx_folder(write_folder(tmp_path, arrays, names), "test")
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, arrays[0])
    np.testing.assert_array_equal(labels, arrays[1])


def test_a_missing_file_is_named(tmp_path, arrays):
    write_folder(tmp_path, arrays)
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte.*Accepted names.*\.gz"):
        load_idx_folder(tmp_path, "train")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-3], r"truncated.*declares \(6, 5, 4\), 120 bytes.*Received: 117 bytes"),
        (lambda content: content + b"x", "Received: 121 bytes"),
        (lambda content: content[:7], "must be an idx file"),
        (lambda content: b"", "must be an idx file"),
        (lambda content: b"<html>" + content, "must be an idx file of unsigned bytes.*Received: .* b'<htm'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, arrays, damage, message):
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(damage(idx_bytes(arrays[0])))
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_a_damaged_gzip_file_is_named(tmp_path, arrays):
    path = tmp_path / "images-idx3-ubyte.gz"
    for content in gzip.compress(idx_bytes(arrays[0]))[:-20], b"no gzip at all":
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"images-idx3-ubyte.gz is not a complete gzip file"):
            read_idx(path)


def test_bad_splits_and_folders_are_rejected(tmp_path, arrays):
    with pytest.raises(ValueError, match="split='val'"):
        load_idx_folder(tmp_path, "val")
    write_folder(tmp_path, (arrays[0], arrays[1][:5]))
    with pytest.raises(ValueError, match=r"\(6, 5, 4\) and \(5,\)"):
        load_idx_folder(tmp_path, "test")
    write_folder(tmp_path, (arrays[0][:0], arrays[1][:0]))
    with pytest.raises(ValueError, match="n >= 1"):
        load_idx_folder(tmp_path, "test")


def test_real_mnist_files(shared):
    images, labels = load_idx_folder(shared / "data/mnist", "train")
    assert images.shape == (60_000, 28, 28)
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
