"""The official files, at a small grid that the tests write themselves."""

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
from keras_provlae.datasets import availability, official_files, originals
from keras_provlae.datasets.ground_truth import GroundTruth
from keras_provlae.datasets.official_files import Original
from keras_provlae.datasets.originals import load
from tests.datasets.tfds_scripts import prepare_and_read

URL = "https://localhost:1/nothing"


def an_original(binary, read, file_name):
    values = {"shape": ("square", "heart"), "scale": (0.5, 0.75, 1.0), "x": range(4)}
    return Original("dsprites", values, (8, 8, 1 if binary else 3), binary, file_name, URL, "1 MB", read)


SPRITES = an_original(True, official_files.read_npz, "sprites.npz")
ROOMS = an_original(False, official_files.read_h5, "rooms.h5")


def pixels(original):
    rng = np.random.default_rng(0)
    return rng.integers(0, 2 if original.binary else 256, (24, *original.image_shape)).astype("uint8")


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
    """Opens a file as the original, with its cache in a folder of the test."""

    def opened(original, path):
        return load(original, path, tmp_path / "cache", lambda: 1 / 0)

    return opened


def black(factors):
    return tf.zeros((tf.shape(factors)[0], 8, 8, 1))


@pytest.fixture
def twin():
    return functools.partial(GroundTruth, {"a": range(2)}, (8, 8, 1), black, "dsprites", "procedural")


@pytest.mark.parametrize(("original", "write"), CASES)
def test_images_come_with_their_factors(tmp_path, open_file, original, write, capsys):
    path = write(tmp_path / original.file_name)
    truth = open_file(original, path)
    expected = pixels(original) / (1 if original.binary else 255)
    np.testing.assert_allclose(truth.images(factors()), expected, rtol=1e-6)
    assert truth.images(factors()).dtype == np.float32
    assert (truth.factor_sizes, truth.name, truth.source) == ((2, 3, 4), "dsprites", original.file_name)
    assert f"unpacks {path} once, to {tmp_path / 'cache'}" in capsys.readouterr().out
    batches = list(truth.tf_dataset(10, shuffle=False).as_numpy_iterator())
    np.testing.assert_allclose(np.concatenate(batches), expected, rtol=1e-6)
    again = pickle.loads(pickle.dumps(truth))
    np.testing.assert_array_equal(again.images(factors()), truth.images(factors()))


@pytest.mark.parametrize(("original", "write"), CASES)
def test_a_file_is_unpacked_once_and_again_when_it_changes(tmp_path, open_file, original, write, capsys):
    path = write(tmp_path / original.file_name)
    open_file(original, path)
    capsys.readouterr()
    open_file(original, str(path))
    assert capsys.readouterr().out == ""
    write(path)
    os.utime(path, (1, 1))
    open_file(original, path)
    assert "unpacks" in capsys.readouterr().out


@pytest.mark.parametrize(("original", "write"), CASES)
def test_rows_in_another_order_find_their_place(tmp_path, open_file, original, write):
    order = np.random.default_rng(1).permutation(24)
    if original is SPRITES:
        classes = np.hstack([np.zeros((24, 1), int), factors()])
        path = write(tmp_path / "a.npz", pixels(SPRITES)[order, ..., 0], classes[order])
    else:
        path = write(tmp_path / "a.h5")
        with h5py.File(path) as file:
            labels = file["labels"][:]
        path = write(tmp_path / "b.h5", pixels(ROOMS)[order], labels[order])
    expected = pixels(original) / (1 if original.binary else 255)
    np.testing.assert_allclose(open_file(original, path).images(factors()), expected, rtol=1e-6)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-200])
    return path


def flipped(path):
    """A zip file, one byte in the compressed images another."""
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
    """A whole zip file whose images are fewer than they declare."""
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
        (SPRITES, lambda p: write_npz(p, pixels(SPRITES)[:20, ..., 0]), "4 of the images are missing"),
        (SPRITES, lambda p: write_npz(p, pixels(SPRITES)[:, :4, :, 0]), r"uint8 images of shape \(24, 4, 8\)"),
        (SPRITES, lambda p: write_npz(p, pixels(SPRITES)[..., 0] * 255), "a pixel of 255, where 0 and 1 are expected"),
        (SPRITES, lambda p: write_npz(p, pixels(SPRITES)[..., 0] * 1.0), "float64 images of shape"),
        (SPRITES, lambda p: write_npz(p, classes=np.full((24, 4), 3)), r"its factors have the sizes \[4, 4, 4\]"),
        (SPRITES, lambda p: write_npz(p, classes=np.zeros((24, 3), int)), r"its factors have the sizes \[1, 1\]"),
        (SPRITES, lambda p: write_npz(p, classes=np.zeros((24, 4), int)), "23 of the images are missing"),
        (SPRITES, lambda p: write_npz(p, np.asfortranarray(pixels(SPRITES)[..., 0])), "in Fortran order"),
        (SPRITES, lambda p: write_npz(p, classes=np.full((24, 4), -1)), "a factor is negative|the sizes"),
        (SPRITES, lambda p: write_npz(p, classes=np.full((24, 4), "a")), "its factors are"),
        (SPRITES, lambda p: write_npz(p, classes=np.full((24, 4), None)), "ValueError: Object arrays"),
        (SPRITES, lambda p: write_npz(p, pixels(SPRITES)[:0, ..., 0], np.zeros((0, 4), int)), "it has no image"),
        (SPRITES, lambda p: zipped(p, {"latents_classes.npy": b"x", "imgs.npy": b"x"}), "ValueError: "),
        (SPRITES, lambda p: short_images(p), "EOFError: the images end too early"),
        (SPRITES, lambda p: np.savez(p, images=pixels(SPRITES)) or p, "KeyError: .*latents_classes"),
        (ROOMS, lambda p: truncated(write_h5(p)), "OSError: .*truncated file"),
        (ROOMS, text, "OSError: .*"),
        (ROOMS, lambda p: write_h5(p, pixels(ROOMS)[:23]), r"images of shape \(23, 8, 8, 3\) and 24 labels"),
        (ROOMS, lambda p: write_h5(p, pixels(ROOMS)[:, :4]), r"uint8 images of \(4, 8, 3\)"),
        (ROOMS, lambda p: write_h5(p, labels=np.zeros((24, 3))), "23 of the images are missing"),
        (ROOMS, lambda p: write_h5(p, labels=np.full((24, 3), np.nan)), "of the images are missing"),
        (ROOMS, lambda p: write_h5(p, labels=0), "TypeError|AttributeError|IndexError|ValueError"),
        (ROOMS, lambda p: write_h5(p, pixels(ROOMS)[:0], np.zeros((0, 3))), "it has no image"),
        (ROOMS, lambda p: write_h5(p, labels=np.zeros((24, 2))), r"its factors have the sizes \[1, 1\]"),
        (ROOMS, lambda p: write_h5(p, labels=np.arange(72.0).reshape(24, 3)), r"its factors have the sizes \[24"),
    ],
)
def test_a_file_that_is_not_whole_is_named_with_what_was_expected(tmp_path, open_file, original, make, found):
    path = make(tmp_path / original.file_name)
    with pytest.raises(ValueError, match=f"is not dsprites as published, or not whole.*{found}") as caught:
        open_file(original, path)
    assert str(path) in str(caught.value)
    assert "Expected: 24 uint8 images of 8 x 8 x " in str(caught.value)
    assert "(2 shape x 3 scale x 4 x)" in str(caught.value)
    assert f"Get it again from {URL}" in str(caught.value)
    assert not list((tmp_path / "cache").glob("*"))  # nothing half done is left


def test_a_full_disk_is_said_before_anything_is_read(tmp_path, open_file, monkeypatch):
    def full(handle, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="takes 192 bytes, which the disk does not have; give another `cache_dir`"):
        open_file(SPRITES, write_npz(tmp_path / "sprites.npz"))
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize(("original", "write"), CASES)
def test_files_are_read_part_by_part(tmp_path, open_file, original, write, monkeypatch):
    monkeypatch.setattr(official_files, "AT_ONCE", 5)
    truth = open_file(original, write(tmp_path / original.file_name))
    expected = pixels(original) / (1 if original.binary else 255)
    np.testing.assert_allclose(truth.images(factors()), expected, rtol=1e-6)


def test_several_may_unpack_at_once(tmp_path, open_file):
    path = write_h5(tmp_path / "rooms.h5")
    with ThreadPoolExecutor(6) as pool:
        truths = list(pool.map(lambda _: open_file(ROOMS, path), range(6)))
    for truth in truths:
        np.testing.assert_allclose(truth.images(factors()), pixels(ROOMS) / 255, rtol=1e-6)
    assert len(list((tmp_path / "cache").glob("*"))) == 1


def test_what_a_killed_process_left_is_removed_in_time(tmp_path, open_file):
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
def test_a_damaged_unpacked_file_is_made_again(tmp_path, open_file, damage, capsys):
    path = write_npz(tmp_path / "sprites.npz")
    open_file(SPRITES, path)
    (unpacked,) = (tmp_path / "cache").glob("*.npy")
    unpacked.write_bytes(damage(unpacked.read_bytes()))
    capsys.readouterr()
    np.testing.assert_array_equal(open_file(SPRITES, path).images(factors()), pixels(SPRITES))
    assert f"{unpacked} is damaged and made again" in capsys.readouterr().out


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


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_npz(tmp_path / "sprites.npz")
    load(SPRITES, "~/sprites.npz", "~/kept", lambda: 1 / 0)
    assert list((tmp_path / "kept").glob("*.npy"))


def test_a_file_that_another_process_writes_is_not_called_unfit(tmp_path, open_file, monkeypatch):
    def locked(path):
        raise BlockingIOError("Unable to lock file")

    path = write_h5(tmp_path / "rooms.h5")
    monkeypatch.setattr(h5py, "File", locked)
    with pytest.raises(BlockingIOError, match="Unable to lock file"):
        open_file(ROOMS, path)


def test_a_path_that_is_no_file_is_refused(open_file):
    message = "'auto', 'tfds', 'procedural' or the path of the official sprites.npz. Received: source='no/such'"
    with pytest.raises(FileNotFoundError, match=message):
        open_file(SPRITES, "no/such")


@pytest.mark.parametrize("loader", [kp.datasets.dsprites, kp.datasets.shapes3d])
def test_the_public_functions_read_their_files(tmp_path, loader):
    path = tmp_path / "file"
    path.write_text("nothing")
    with pytest.raises(ValueError, match=f"{path} is not {loader.__name__} as published.*Expected: (737,280|480,000) "):
        loader(path)


def test_auto_takes_the_official_file_where_keras_keeps_its_data(tmp_path, monkeypatch, capsys, twin):
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


def test_auto_does_not_hide_that_the_original_is_broken(tmp_path, monkeypatch, twin):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(originals, "tfds_is_prepared", lambda name: False)
    (tmp_path / "datasets").mkdir()
    text(tmp_path / "datasets" / "sprites.npz")
    with pytest.raises(ValueError, match="sprites.npz is not dsprites as published"):
        load(SPRITES, "auto", None, twin)


def test_without_a_network_tfds_fails_at_once_and_says_what_to_do(monkeypatch, open_file):
    monkeypatch.setattr(originals, "tfds_is_prepared", lambda name: False)
    monkeypatch.setattr(originals, "network_answers", lambda url: False)
    with pytest.raises(ConnectionError, match=f"{URL} does not answer. Or get sprites.npz .*'procedural' needs no"):
        open_file(SPRITES, "tfds")


def test_a_download_that_fails_is_named(monkeypatch, open_file, capsys):
    import tensorflow_datasets as tfds

    class Builder:
        def download_and_prepare(self):
            raise OSError("quota exceeded")

    monkeypatch.setattr(originals, "tfds_is_prepared", lambda name: False)
    monkeypatch.setattr(originals, "network_answers", lambda url: True)
    monkeypatch.setattr(tfds, "builder", lambda name: Builder())
    with pytest.raises(ConnectionError, match=f"the download from {URL} failed .OSError: quota exceeded.*sprites.npz"):
        open_file(SPRITES, "tfds")
    assert "downloads the original (1 MB)" in capsys.readouterr().out


PREPARE = """
import importlib
import sys
import numpy as np, tensorflow as tf, tensorflow_datasets as tfds
from tests.datasets.test_originals import SPRITES, factors, pixels
labels = {f"label_{n}": tfds.features.ClassLabel(num_classes=s) for n, s in zip(SPRITES.factor_values, SPRITES.sizes)}
features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(8, 8, 1)), **labels})
rows = {"image": pixels(SPRITES), **dict(zip(labels, factors().T))}
ds = tf.data.Dataset.from_tensor_slices(rows)
tfds.dataset_builders.store_as_tfds_dataset(name="small_sprites", version="2.0.0", data_dir=sys.argv[1],
    features=features, split_datasets={"train": ds}, disable_shuffling=False)
for name in "dsprites", "shapes3d":
    original = getattr(importlib.import_module(f"keras_provlae.datasets.{name}"), "_ORIGINAL")
    published = tfds.builder(name).info
    assert published.features["image"].shape == original.image_shape
    sizes = [published.features[f"label_{factor}"].num_classes for factor in original.factor_values]
    assert tuple(sizes) == original.sizes
"""
READ = """
import sys
import numpy as np
from keras_provlae.datasets import originals
from tests.datasets.test_originals import SPRITES, factors, pixels
originals.network_answers = lambda url: 1 / 0  # prepared data need no network
for source in "auto", "tfds":
    truth = originals.load(SPRITES._replace(name="small_sprites"), source, sys.argv[1] + "/cache", lambda: 1 / 0)
    print(truth.source, np.array_equal(truth.images(factors()), pixels(SPRITES)), file=sys.stderr)
"""


def test_prepared_tfds_data_come_first(tmp_path):
    done = prepare_and_read(tmp_path, PREPARE, READ)
    assert [line for line in done.stderr.splitlines() if line.startswith("tfds ")] == ["tfds True"] * 2
    assert done.stdout.startswith("small_sprites: the original, as prepared by tensorflow-datasets.\n")
    assert done.stdout.count("unpacks") == 1


def test_the_network_is_asked_for_three_seconds_at_most():
    assert availability.NETWORK_SECONDS == 3.0
