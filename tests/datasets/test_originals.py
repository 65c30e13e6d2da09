"""Files like the official ones, with a small grid."""

import errno
import functools
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp
from keras_provlae.datasets import official_files, originals
from keras_provlae.datasets.ground_truth import GroundTruth
from keras_provlae.datasets.official_files import Original
from keras_provlae.datasets.originals import load

URL = "https://localhost:1/nothing"


def small_original(binary, read, file_name):
    values = {"shape": ("square", "heart"), "scale": (0.5, 0.75, 1.0), "x": range(4)}
    return Original("dsprites", values, (8, 8, 1 if binary else 3), binary, file_name, URL, "1 MB", read)


SPRITES = small_original(True, official_files.read_npz, "sprites.npz")
ROOMS = small_original(False, official_files.read_h5, "rooms.h5")


def pixels(original):
    """Stored uint8 images."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 2 if original.binary else 256, (24, *original.image_shape)).astype("uint8")


def expected(original):
    """Rendered images."""
    return pixels(original) / (1 if original.binary else 255)


def factors():
    return np.stack(np.unravel_index(np.arange(24), (2, 3, 4)), axis=1)


def write_npz(path, images=None, classes=None, **more):
    images = pixels(SPRITES)[..., 0] if images is None else images
    classes = np.hstack([np.zeros((len(images), 1), int), factors()[: len(images)]]) if classes is None else classes
    np.savez_compressed(path, imgs=images, latents_classes=classes, **more)
    return path


def write_h5(path, images=None, labels=None):
    with h5py.File(path, "w") as file:
        file["images"] = pixels(ROOMS) if images is None else images
        values = [np.asarray(v, float) for v in ((0, 1), *list(ROOMS.factor_values.values())[1:])]
        file["labels"] = (
            np.stack([v[c] for v, c in zip(values, factors().T, strict=True)], axis=1) if labels is None else labels
        )
    return path


CASES = [(SPRITES, write_npz), (ROOMS, write_h5)]


@pytest.fixture
def open_file(tmp_path):
    """Function that opens a file as the original, with a cache folder of the test."""

    def opened(original, path):
        return load(original, path, tmp_path / "cache", lambda: 1 / 0)

    return opened


def black(factors):
    return tf.zeros((tf.shape(factors)[0], 8, 8, 1))


@pytest.fixture
def twin():
    return functools.partial(GroundTruth, {"a": range(2)}, (8, 8, 1), black, "dsprites", "procedural")


@pytest.mark.parametrize(("original", "write"), CASES)
def test_images_match_their_factors(tmp_path, open_file, original, write, capsys):
    path = write(tmp_path / original.file_name)
    truth = open_file(original, path)
    np.testing.assert_allclose(truth.images(factors()), expected(original), rtol=1e-6)
    assert truth.images(factors()).dtype == np.float32
    assert (truth.factor_sizes, truth.name, truth.source) == ((2, 3, 4), "dsprites", original.file_name)
    assert f"unpacking {path} once to {tmp_path / 'cache'}" in capsys.readouterr().out
    batches = list(truth.tf_dataset(10, shuffle=False).as_numpy_iterator())
    np.testing.assert_allclose(np.concatenate(batches), expected(original), rtol=1e-6)
    again = pickle.loads(pickle.dumps(truth))
    np.testing.assert_array_equal(again.images(factors()), truth.images(factors()))


@pytest.mark.parametrize(("original", "write"), CASES)
def test_a_file_is_unpacked_once_and_again_after_it_changes(tmp_path, open_file, original, write, capsys):
    path = write(tmp_path / original.file_name)
    open_file(original, path)
    capsys.readouterr()
    open_file(original, str(path))
    assert capsys.readouterr().out == ""
    write(path)
    os.utime(path, (1, 1))
    open_file(original, path)
    assert "unpacking" in capsys.readouterr().out


@pytest.mark.parametrize(("original", "write"), CASES)
def test_rows_may_be_in_any_order(tmp_path, open_file, original, write):
    order = np.random.default_rng(1).permutation(24)
    if original is SPRITES:
        classes = np.hstack([np.zeros((24, 1), int), factors()])
        path = write(tmp_path / "a.npz", pixels(SPRITES)[order, ..., 0], classes[order])
    else:
        path = write(tmp_path / "a.h5")
        with h5py.File(path) as file:
            labels = file["labels"][:]
        path = write(tmp_path / "b.h5", pixels(ROOMS)[order], labels[order])
    np.testing.assert_allclose(open_file(original, path).images(factors()), expected(original), rtol=1e-6)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-200])
    return path


def flipped(path):
    """Changes one byte of the compressed images."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("imgs.npy").header_offset
    content[place + 200] ^= 0xFF
    path.write_bytes(bytes(content))
    return path


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def short_images(path):
    """Writes a complete zip file with fewer images than declared."""
    with zipfile.ZipFile(write_npz(path)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return zipped(path, {**members, "imgs.npy": members["imgs.npy"][:-50]})


def text(path):
    path.write_text("<html>not found</html>")
    return path


@pytest.mark.parametrize(
    ("original", "make", "found"),
    [
        (SPRITES, lambda p: truncated(write_npz(p)), "BadZipFile"),
        (SPRITES, lambda p: flipped(write_npz(p)), "(BadZipFile|error): "),
        (SPRITES, text, "BadZipFile: File is not a zip file"),
        (SPRITES, lambda p: write_npz(p, pixels(SPRITES)[:20, ..., 0]), "4 missing images"),
        (SPRITES, lambda p: write_npz(p, pixels(SPRITES)[:, :4, :, 0]), r"uint8 images of shape \(24, 4, 8\)"),
        (SPRITES, lambda p: write_npz(p, pixels(SPRITES)[..., 0] * 255), "pixels of 0 .. 255 instead of 0 and 1"),
        (SPRITES, lambda p: write_npz(p, pixels(SPRITES)[..., 0] * 1.0), "float64 images of shape"),
        (SPRITES, lambda p: write_npz(p, classes=np.full((24, 4), 3)), r"factors of sizes \[4, 4, 4\]"),
        (SPRITES, lambda p: write_npz(p, classes=np.zeros((24, 3), int)), r"factors of sizes \[1, 1\]"),
        (SPRITES, lambda p: write_npz(p, classes=np.zeros((24, 4), int)), "23 missing images"),
        (SPRITES, lambda p: write_npz(p, np.asfortranarray(pixels(SPRITES)[..., 0])), "in Fortran order"),
        (SPRITES, lambda p: write_npz(p, classes=np.full((24, 4), -1)), "a negative factor"),
        (SPRITES, lambda p: write_npz(p, classes=np.full((24, 4), "a")), "factors of type"),
        (SPRITES, lambda p: write_npz(p, classes=np.full((24, 4), None)), "ValueError: Object arrays"),
        (SPRITES, lambda p: write_npz(p, pixels(SPRITES)[:0, ..., 0], np.zeros((0, 4), int)), "no images"),
        (SPRITES, lambda p: zipped(p, {"latents_classes.npy": b"x", "imgs.npy": b"x"}), "ValueError: "),
        (SPRITES, lambda p: short_images(p), "EOFError: too few images"),
        (SPRITES, lambda p: np.savez(p, images=pixels(SPRITES)) or p, "KeyError: .*latents_classes"),
        (ROOMS, lambda p: truncated(write_h5(p)), "OSError: .*truncated file"),
        (ROOMS, text, "OSError: .*"),
        (ROOMS, lambda p: write_h5(p, pixels(ROOMS)[:23]), r"images of shape \(23, 8, 8, 3\) and 24 labels"),
        (ROOMS, lambda p: write_h5(p, pixels(ROOMS)[:, :4]), r"uint8 images of \(4, 8, 3\)"),
        (ROOMS, lambda p: write_h5(p, labels=np.zeros((24, 3))), "23 missing images"),
        (ROOMS, lambda p: write_h5(p, labels=np.full((24, 3), np.nan)), "missing images"),
        (ROOMS, lambda p: write_h5(p, labels=0), "TypeError|AttributeError|IndexError|ValueError"),
        (ROOMS, lambda p: write_h5(p, pixels(ROOMS)[:0], np.zeros((0, 3))), "no images"),
        (ROOMS, lambda p: write_h5(p, labels=np.zeros((24, 2))), r"factors of sizes \[1, 1\]"),
        (ROOMS, lambda p: write_h5(p, labels=np.arange(72.0).reshape(24, 3)), r"factors of sizes \[24"),
    ],
)
def test_a_wrong_or_damaged_file_is_named(tmp_path, open_file, original, make, found):
    path = make(tmp_path / original.file_name)
    with pytest.raises(ValueError, match=f"must be dsprites as published: .* Received: .*{found}") as caught:
        open_file(original, path)
    assert str(path) in str(caught.value)
    assert "published: 24 uint8 images of 8 x 8 x " in str(caught.value)
    assert "(2 shape x 3 scale x 4 x)" in str(caught.value)
    assert f"Download it again from {URL}" in str(caught.value)
    assert not list((tmp_path / "cache").glob("*"))  # no partial file is left


def test_a_full_disk_raises_before_anything_is_read(tmp_path, open_file, monkeypatch):
    def full(handle, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="needs 192 bytes of free disk space. Pass another `cache_dir`"):
        open_file(SPRITES, write_npz(tmp_path / "sprites.npz"))
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize(("original", "write"), CASES)
def test_files_are_read_in_parts(tmp_path, open_file, original, write, monkeypatch):
    monkeypatch.setattr(official_files, "AT_ONCE", 5)
    truth = open_file(original, write(tmp_path / original.file_name))
    np.testing.assert_allclose(truth.images(factors()), expected(original), rtol=1e-6)


def test_several_threads_may_unpack_at_once(tmp_path, open_file):
    path = write_h5(tmp_path / "rooms.h5")
    with ThreadPoolExecutor(4) as pool:
        truths = list(pool.map(lambda _: open_file(ROOMS, path), range(4)))
    for truth in truths:
        np.testing.assert_allclose(truth.images(factors()), expected(ROOMS), rtol=1e-6)
    assert len(list((tmp_path / "cache").glob("*"))) == 1


def test_stale_partial_files_are_removed(tmp_path, open_file):
    path = write_npz(tmp_path / "sprites.npz")
    open_file(SPRITES, path)
    (unpacked,) = (tmp_path / "cache").glob("*.npy")
    old, new = (unpacked.with_name(f"{unpacked.name}.{name}.partial") for name in ("old", "new"))
    unpacked.unlink()
    for partial in old, new:
        partial.write_text("half")
    os.utime(old, (1, 1))
    open_file(SPRITES, path)
    assert (old.exists(), new.exists(), unpacked.exists()) == (False, True, True)


@pytest.mark.parametrize("damage", [lambda content: content[:-20], lambda content: b"", lambda content: b"x" * 300])
def test_a_damaged_unpacked_file_is_replaced(tmp_path, open_file, damage, capsys):
    path = write_npz(tmp_path / "sprites.npz")
    open_file(SPRITES, path)
    (unpacked,) = (tmp_path / "cache").glob("*.npy")
    unpacked.write_bytes(damage(unpacked.read_bytes()))
    capsys.readouterr()
    np.testing.assert_array_equal(open_file(SPRITES, path).images(factors()), pixels(SPRITES))
    assert f"{unpacked} is damaged; unpacking again" in capsys.readouterr().out


def test_the_unpacked_file_of_an_older_version_is_removed(tmp_path, open_file):
    path = write_npz(tmp_path / "sprites.npz")
    open_file(SPRITES, path)
    os.utime(path, (1, 1))
    open_file(SPRITES, path)
    assert len(list((tmp_path / "cache").glob("*"))) == 1
    other = write_npz(tmp_path / "other.npz")
    os.utime(other, (1, 1))
    open_file(SPRITES, other)
    assert len(list((tmp_path / "cache").glob("*"))) == 2


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_npz(tmp_path / "sprites.npz")
    load(SPRITES, "~/sprites.npz", "~/kept", lambda: 1 / 0)
    assert list((tmp_path / "kept").glob("*.npy"))


def test_a_locked_file_is_not_called_wrong(tmp_path, open_file, monkeypatch):
    def locked(path):
        raise BlockingIOError("Unable to lock file")

    path = write_h5(tmp_path / "rooms.h5")
    monkeypatch.setattr(h5py, "File", locked)
    with pytest.raises(BlockingIOError, match="Unable to lock file"):
        open_file(ROOMS, path)


def test_a_missing_file_is_rejected(open_file):
    message = "'auto', 'tfds', 'procedural' or the path of the official sprites.npz. Received: source='no/such'"
    with pytest.raises(FileNotFoundError, match=message):
        open_file(SPRITES, "no/such")


@pytest.mark.parametrize("loader", [kp.datasets.dsprites, kp.datasets.shapes3d])
def test_the_public_functions_read_their_files(tmp_path, loader):
    path = tmp_path / "file"
    path.write_text("nothing")
    with pytest.raises(ValueError, match=f"{path} must be {loader.__name__} as published: (737,280|480,000) "):
        loader(path)


def test_auto_finds_the_official_file_where_keras_stores_data(tmp_path, monkeypatch, capsys, twin):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(originals, "tfds_is_prepared", lambda name: False)
    assert load(SPRITES, "auto", None, twin).source == "procedural"
    assert "the procedural twin" in capsys.readouterr().out
    (tmp_path / "datasets").mkdir()
    path = write_npz(tmp_path / "datasets" / "sprites.npz")
    truth = load(SPRITES, "auto", None, twin)
    assert truth.source == "sprites.npz"
    assert capsys.readouterr().out.startswith(f"dsprites: the original, {path}.\n")
    assert list((tmp_path / "keras_provlae").glob("dsprites-*.npy"))


def test_auto_does_not_hide_a_damaged_original(tmp_path, monkeypatch, twin):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(originals, "tfds_is_prepared", lambda name: False)
    (tmp_path / "datasets").mkdir()
    text(tmp_path / "datasets" / "sprites.npz")
    with pytest.raises(ValueError, match="sprites.npz must be dsprites as published"):
        load(SPRITES, "auto", None, twin)


def test_tfds_fails_at_once_without_a_network(monkeypatch, open_file):
    monkeypatch.setattr(originals, "tfds_is_prepared", lambda name: False)
    monkeypatch.setattr(originals, "network_answers", lambda url: False)
    with pytest.raises(
        ConnectionError, match=f"{URL} does not answer. Or download sprites.npz .*'procedural' needs no"
    ):
        open_file(SPRITES, "tfds")


def test_a_failed_download_is_named(monkeypatch, open_file, capsys):
    import tensorflow_datasets as tfds

    class Builder:
        def download_and_prepare(self):
            raise OSError("quota exceeded")

    monkeypatch.setattr(originals, "tfds_is_prepared", lambda name: False)
    monkeypatch.setattr(originals, "network_answers", lambda url: True)
    monkeypatch.setattr(tfds, "builder", lambda name: Builder())
    with pytest.raises(ConnectionError, match=f"the download from {URL} failed .OSError: quota exceeded.*sprites.npz"):
        open_file(SPRITES, "tfds")
    assert "downloading the original with tensorflow-datasets (1 MB)" in capsys.readouterr().out


def test_auto_prefers_prepared_tfds_data(tfds_folder, monkeypatch, capsys):
    import tensorflow_datasets as tfds

    original = SPRITES._replace(name="small_sprites")
    labels = {f"label_{name}": size for name, size in zip(original.factor_values, original.sizes, strict=True)}
    features = {name: tfds.features.ClassLabel(num_classes=size) for name, size in labels.items()}
    rows = {"image": pixels(SPRITES), **dict(zip(labels, factors().T, strict=True))}
    tfds.dataset_builders.store_as_tfds_dataset(
        name=original.name,
        version="2.0.0",
        data_dir=tfds_folder,
        features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(8, 8, 1)), **features}),
        split_datasets={"train": tf.data.Dataset.from_tensor_slices(rows)},
        disable_shuffling=False,
    )
    monkeypatch.setattr(originals, "network_answers", lambda url: 1 / 0)
    capsys.readouterr()
    for source in "auto", "tfds":
        truth = load(original, source, tfds_folder / "cache", lambda: 1 / 0)
        assert truth.source == "tfds"
        np.testing.assert_array_equal(truth.images(factors()), pixels(SPRITES))
    output = capsys.readouterr().out
    assert output.startswith("small_sprites: the original, prepared by tensorflow-datasets.\n")
    assert output.count("unpacking") == 1
