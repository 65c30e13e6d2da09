import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_provlae.datasets import image_folder
from keras_provlae.datasets.folder_files import find_images
from keras_provlae.datasets.image_files import Decoding, center_crop, decode_one, good_images, resize


def picture(number, height=20, width=30):
    """A smooth uint8 image whose mean encodes the number."""
    row, column = np.mgrid[0:height, 0:width]
    ramp = 5 * np.sin(row / height * 3)[..., np.newaxis] + 5 * np.cos(column / width * 3)[..., np.newaxis]
    return np.clip(20 * (number + 1) + ramp * [1, 0, -1], 0, 255).astype("uint8")


def numbers(batch):
    """Numbers of the pictures, from their mean."""
    return np.rint(255 * np.asarray(batch).mean(axis=(1, 2, 3)) / 20 - 1).astype(int).tolist()


def write(path, image):
    encode = {".png": tf.io.encode_png, ".jpg": lambda x: tf.io.encode_jpeg(x, quality=100)}[path.suffix.lower()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(image).numpy())
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Seven images of 20 x 30 in subfolders, as PNG and JPEG, and a text file."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(7):
        name = f"{'abc'[number % 3]}/{number}{('.png', '.JPG')[number % 2]}"
        write(folder / f"{number}-{name}", picture(number))
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def folder(pictures, tmp_path):
    """A copy of the pictures that the test may change."""
    return shutil.copytree(pictures, tmp_path / "images")


def truncate(folder, number):
    """Truncates the image with that number."""
    (path,) = (path for path in folder.rglob("*") if path.is_file() and path.parent.name.startswith(f"{number}-"))
    path.write_bytes(path.read_bytes()[:-100])
    return path


def save(path, pixels, mode=None, **how):
    """Writes pixels with Pillow, converted to a mode; `"P"` has a palette that starts with the first pixel's color."""
    image = Image.fromarray(np.asarray(pixels))
    image = image.quantize(2) if mode == "P" else image.convert(mode) if mode else image
    image.save(path, **how)


def over(color, alpha):
    """20 x 30 pixels of a gray and an alpha."""
    return np.full((20, 30, 4), (color, color, color, alpha), "uint8")


# === Order, size and color ===


def test_images_are_read_in_the_order_of_their_names(pictures):
    ds = image_folder(pictures, batch_size=4, shuffle=False)
    assert ds.element_spec == tf.TensorSpec((None, 20, 30, 3), tf.float32)
    assert len(ds) == 2
    first, second = ds
    assert (numbers(first), numbers(second)) == ([0, 1, 2, 3], [4, 5, 6])
    np.testing.assert_allclose(255 * first[0], picture(0), atol=1e-3)
    np.testing.assert_allclose(255 * first[1], picture(1), atol=6)  # JPEG


def test_each_epoch_has_a_new_order_and_a_shard_reads_its_part_of_each_batch(pictures):
    alone = image_folder(pictures, batch_size=4, seed=0)
    shard = image_folder(pictures, batch_size=4, seed=0, shard=(1, 2))
    assert len(alone) == len(shard) == 2
    epochs = [[numbers(batch) for batch in alone] for _ in range(2)]
    assert [sorted(np.concatenate(epoch)) for epoch in epochs] == [list(range(7))] * 2
    assert epochs[0] != epochs[1]
    assert [numbers(batch) for batch in shard] == [epochs[0][0][2:], epochs[0][1][1:]]
    other = image_folder(pictures, batch_size=4, seed=1, shard=(1, 2), drop_remainder=True)
    assert (len(other), other.element_spec.shape[0]) == (1, 2)
    assert numbers(next(iter(other))) != epochs[0][0][2:]
    with pytest.raises(ValueError, match="divisible by their number 3"):
        image_folder(pictures, batch_size=4, seed=0, shard=(0, 3))


@pytest.mark.parametrize("size", [(20, 20), (40, 20), (10, 30)])
def test_center_crops_are_resized(size):
    height, width = size
    image = resize(center_crop(tf.constant(picture(0)), height, width), height, width)
    cut_height, cut_width = min(20, 30 * height // width), min(30, 20 * width // height)
    top, left = (20 - cut_height) // 2, (30 - cut_width) // 2
    part = picture(0)[top : top + cut_height, left : left + cut_width]
    np.testing.assert_allclose(255 * image, tf.image.resize(part, size), atol=1e-3)
    assert np.abs(255 * np.asarray(image).mean() - part.mean()) < 1


def test_images_of_different_sizes_need_an_image_size(folder):
    odd = write(folder / "8-a/8.png", picture(8, 20, 24))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"All images must be 20 x 30 like .*0-a/0.png.*image_size"
    ) as e:
        list(image_folder(folder, 4, shuffle=False))
    assert str(odd) in str(e.value)
    assert "[20 24]" in str(e.value)
    images = np.concatenate(list(image_folder(folder, 4, (40, 20), shuffle=False)))
    assert images.shape == (8, 40, 20, 3)
    np.testing.assert_allclose(255 * images[0], tf.image.resize(picture(0)[:, 10:20], (40, 20)), atol=1e-3)


def test_shrinking_averages():
    """One-pixel stripes become gray, not black or white."""
    stripes = np.zeros((32, 32, 3), "uint8")
    stripes[:, ::2] = 255
    np.testing.assert_allclose(resize(tf.constant(stripes), 8, 8)[:, 1:-1], 0.5, atol=0.02)


@pytest.mark.parametrize("size", [3, 7, 10, 33, 64])
def test_resized_pixels_stay_in_the_unit_interval(size):
    image = 255 * (np.indices((20, 21)).sum(axis=0) // 5 % 2)[..., np.newaxis].astype("uint8")
    for pixels in image, np.full_like(image, 255):
        resized = resize(tf.constant(pixels), size, size + 1).numpy()
        assert (resized.min() >= 0, resized.max() <= 1) == (True, True)


def test_a_small_image_can_be_cropped_to_a_long_strip():
    assert center_crop(tf.constant(picture(3, 5, 5)), 64, 4).shape == (5, 1, 3)


def test_gray_images_are_weighted_by_luma(pictures):
    image = decode_one(str(pictures / "0-a/0.png"), Decoding(channels=1))
    assert image.shape == (20, 30, 1)
    np.testing.assert_allclose(image[..., 0].astype(float), picture(0) @ [0.2989, 0.587, 0.114], atol=2)


# === Formats ===


def test_other_formats(tmp_path):
    """All images have one color; transparent pixels hide another."""
    plain, frames = np.full((20, 30, 3), 200, "uint8"), [Image.new("L", (30, 20), value) for value in (200, 10)]
    save(tmp_path / "a.BMP", plain)
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    save(tmp_path / "c.jpeg", plain, "CMYK", quality=100)
    for mode in "P", "L", "RGBA":
        save(tmp_path / f"d {mode}.bmp", plain, mode)
    save(tmp_path / "e.webp", plain, lossless=True)
    save(tmp_path / "f.jfif", plain, format="jpeg", quality=100)
    save(tmp_path / "g.jpg", plain, format="webp", lossless=True)
    for mode in "P", "CMYK", "RGB":
        save(tmp_path / f"h {mode}.tif", plain, mode)
    save(tmp_path / "i.TIFF", plain[..., 0] * np.uint16(257))
    save(tmp_path / "j.png", plain[..., 0] * np.uint16(257))
    save(tmp_path / "k.pgm", plain[..., 0])
    for mode, how in ("RGBA", {}), ("LA", {}), ("P", {"transparency": 0}):
        save(tmp_path / f"l {mode}.png", over(90, 0), mode, **how)
    save(tmp_path / "m.png", np.full((20, 30), 90, "uint8"), transparency=90)
    save(tmp_path / "n.png", np.full((20, 30, 3), 90, "uint8"), transparency=(90, 90, 90))
    save(tmp_path / "o.gif", np.full((20, 30), 90, "uint8"), "P", transparency=0)
    save(tmp_path / "p.webp", over(90, 0), lossless=True, exact=True)
    paths = find_images(tmp_path)
    gray = next(iter(image_folder(tmp_path, channels=1, shuffle=False, background=200 / 255)))
    color = np.stack([decode_one(path, Decoding(background=(200 / 255,) * 3)) for path in paths])
    assert (gray.shape, color.shape) == ((22, 20, 30, 1), (22, 20, 30, 3))
    for images in 255 * np.asarray(gray), color.astype(float):
        np.testing.assert_allclose(np.ptp(images, axis=(1, 2, 3)), 0, atol=1e-3)
        np.testing.assert_allclose(images[:, 0, 0, 0], np.full(22, 200), atol=6)


@pytest.mark.parametrize("background", [(255, 255, 255), (10, 200, 30)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "deep"])
def test_transparency_shows_the_background(tmp_path, mode, background):
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (4, 3, 4)), np.ones((5, 10, 1))).astype("uint8")
    image = Image.fromarray(pixels).convert("RGBA" if mode == "deep" else mode)
    path = tmp_path / "a.png"
    if mode == "deep":
        path.write_bytes(tf.io.encode_png(pixels * np.uint16(257)).numpy())
    else:
        image.save(path, **({"transparency": bytes(range(0, 200, 20))} if mode == "P" else {}))
        image = Image.open(path).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")
    how = Decoding(background=tuple(value / 255 for value in background))
    np.testing.assert_allclose(decode_one(str(path), how).astype(int), np.asarray(expected), atol=1)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_the_bit_depth_of_16_bit_files_is_not_guessed(tmp_path, name):
    camera = (picture(3).astype("uint16") * 16)[..., 0]
    save(tmp_path / name, camera)
    with pytest.raises(
        ValueError, match=rf"Cannot decode .*{name} : its largest value is {camera.max()} of 65535.*`bits="
    ):
        image_folder(tmp_path, image_size=8)
    path = str(tmp_path / name)
    np.testing.assert_allclose(
        decode_one(path, Decoding(bits=12))[..., 0].astype(int), np.rint(camera / 4095 * 255), atol=1
    )
    assert decode_one(path, Decoding(bits=16)).max() == np.rint(camera.max() / 257)
    with pytest.raises(ValueError, match="does not fit in `bits=10`"):
        decode_one(path, Decoding(bits=10))
    save(tmp_path / name, camera * 0)
    assert decode_one(path, Decoding()).max() == 0


def test_pixels_of_unknown_range_are_rejected(tmp_path):
    save(tmp_path / "a.tif", np.ones((4, 4), "float32"))
    with pytest.raises(ValueError, match=r"a.tif : it has 32-bit pixels"):
        image_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<html>", "TensorFlow and Pillow do not know"),
        (b"\x89PNG\r\n\x1a\n", "Invalid PNG"),
        (b"BM", "TensorFlow and Pillow do not know"),
    ],
)
def test_the_error_says_why_a_file_cannot_be_decoded(tmp_path, content, reason):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=f"Cannot decode .*a.png : {reason}"):
        image_folder(tmp_path)


# === Files and folders ===


def test_file_names_may_be_non_utf_8(tmp_path, capsys):
    last = os.fsdecode(os.fsencode(tmp_path) + b"/z\xe9.png")
    for name, number in (b"a\xe9.png", 3), (b"b\xe9.bmp", 4):
        save(os.fsdecode(os.fsencode(tmp_path) + b"/" + name), picture(number))
    save(last, picture(5))
    (tmp_path / os.fsdecode(b"notes.\xe9")).touch()
    ds = image_folder(tmp_path, shuffle=False)
    assert numbers(next(iter(ds))) == [3, 4, 5]
    assert "3 images. Skipped: .\\xe9 (1)." in capsys.readouterr().out
    os.truncate(last, 100)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"Cannot decode .*z\\+xe9.png : Invalid PNG data, size 100\."
    ):
        list(ds)
    with pytest.warns(UserWarning, match=r"1 of 3 .* skipped: .*z\\xe9.png. The first: Invalid PNG data"):
        assert len(good_images(find_images(tmp_path), Decoding(), "skip")) == 2
    save(last, picture(5, 8, 8))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"All images must be .*a\\+xe9.png.*z\\+xe9.png"):
        list(ds)


def test_hidden_files_and_folders_are_skipped(folder):
    for name in "._1.jpg", ".ipynb_checkpoints/2.png", "__MACOSX/3.png":
        write(folder / name, picture(0))
    (folder / "album.jpg").mkdir()
    assert len(find_images(folder)) == 7


def test_a_tilde_is_the_home_folder(pictures, monkeypatch):
    monkeypatch.setenv("HOME", str(pictures.parent))
    assert len(find_images(f"~/{pictures.name}")) == 7


def test_linked_folders_are_read_once_and_skipped_files_are_counted(folder, tmp_path, capsys):
    for number in 1, 2:
        write(tmp_path / f"elsewhere/deep/{number}.png", picture(number))
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(folder / "0-a")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.png").symlink_to(tmp_path / "gone.png")
    (folder / "self").symlink_to(folder / "self")
    for name in "1.heic", "2.HEIC", "README", ".hidden.png":
        (folder / name).touch()
    paths = find_images(folder)
    assert len(paths) == 9
    assert [path.removeprefix(str(folder)) for path in paths[-2:]] == ["/linked/deep/1.png", "/linked/deep/2.png"]
    assert str(folder / "0-a/0.png") in paths
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{folder}: 9 images. Skipped: ")
    kinds = {".heic (2)", ".txt (1)", "no suffix (1)", "hidden (1)", "broken links (2)"}
    assert {*line.removesuffix(".").split("Skipped: ")[1].split(", ")} == {*kinds, "links to folders already read (2)"}
    find_images(tmp_path / "elsewhere")
    assert not capsys.readouterr().out


def test_an_unreadable_folder_raises_or_is_counted(folder, monkeypatch, capsys):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("0-a"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="0-a"):
        find_images(folder)
    assert len(find_images(folder, "skip")) == 6
    assert "unreadable folders (1)" in capsys.readouterr().out


# === Bad images and arguments ===


def test_a_bad_image_is_named(folder):
    path = truncate(folder, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"Cannot decode {path} .*set `on_bad_image` to skip"):
        list(image_folder(folder, 4, 8))


def test_bad_images_are_skipped_with_a_warning(folder):
    bad = [truncate(folder, number) for number in (0, 3)]
    with pytest.warns(UserWarning, match=r"2 of 7 images cannot be decoded and are skipped: ") as caught:
        ds = image_folder(folder, 4, shuffle=False, on_bad_image="skip")
    assert all(str(path) in str(caught[0].message) for path in bad)
    assert caught[0].filename == __file__
    assert len(ds) == 2
    assert [numbers(batch) for batch in ds] == [[1, 2, 4, 5], [6]]


def test_the_warning_names_three_files_and_counts_the_rest(folder):
    for number in range(5):
        truncate(folder, number)
    with pytest.warns(UserWarning, match="5 of 7 .* and 2 more."):
        good_images(find_images(folder), Decoding(), "skip")


def test_the_first_image_must_be_good_because_it_sets_the_size(folder):
    path = truncate(folder, 0)
    with pytest.raises(ValueError, match=f"Cannot decode {path}"):
        image_folder(folder)


def test_a_folder_without_good_images_is_rejected(folder):
    for number in range(7):
        truncate(folder, number)
    with pytest.raises(ValueError, match="At least one image must be decodable. Received: 7 bad images, such as .*0-a"):
        good_images(find_images(folder), Decoding(), "skip")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"folder": "no/such"}, FileNotFoundError, "no/such', which is not a folder"),
        (
            {"folder": "empty"},
            FileNotFoundError,
            "must contain images: files ending in .jpg, .jpeg, .png.* an empty folder",
        ),
        ({"folder": "texts"}, FileNotFoundError, r"must contain images: .* Received: .txt \(1\)"),
        ({"background": 255}, ValueError, r"in \[0, 1\], .*Received: background=255. Divide by 255\?"),
        ({"background": (0, 1)}, ValueError, r"Received: background=\(0, 1\)"),
        ({"background": "white"}, TypeError, "must be a number or .*Received: background='white'"),
        ({"bits": 17}, ValueError, "`bits` must be at most 16. Received: bits=17"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"channels": True}, ValueError, "Received: channels=True"),
        ({"channels": 4}, ValueError, r"3 \(color\) or 1 \(gray\). Received: channels=4"),
        ({"image_size": 0}, ValueError, "`image_size` must be at least 1"),
        ({"image_size": (8, 8, 3)}, ValueError, r"an int or \(height, width\). Received: image_size=\(8, 8, 3\)"),
        ({"image_size": 8.5}, TypeError, "`image_size` must be"),
        ({"image_size": "64"}, TypeError, "`image_size` must be an integer. Received: image_size='64'"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"batch_size": "100"}, TypeError, "`batch_size` must be an integer"),
        ({"on_bad_image": "ignore"}, ValueError, r"one of \('error', 'skip'\). Received: on_bad_image='ignore'"),
    ],
)
def test_bad_arguments_are_rejected(pictures, tmp_path, monkeypatch, change, error, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        image_folder(**{"folder": pictures, **change})
