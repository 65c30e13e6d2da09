import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp
from keras_provlae.datasets.image_files import center_crop, resize
from keras_provlae.export.image_bytes import image_decoder
from keras_provlae.export.metadata import describe
from keras_provlae.export.signatures import traced_signatures

GRAY, COLOR, PALETTE, GRAY_ALPHA, COLOR_ALPHA = 0, 2, 3, 4, 6


def png(bits, color_type, row, size=(2, 1), **chunks):
    """Builds a PNG file by the specification: TensorFlow and Pillow write only a few of its kinds."""
    header = struct.pack(">IIBBBBB", *size, bits, color_type, 0, 0, 0)
    chunks = {"IHDR": header, **chunks, "IDAT": zlib.compress(b"\0" + bytes(row)), "IEND": b""}
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks.items():
        named = name.encode() + data
        content += struct.pack(">I", len(data)) + named + struct.pack(">I", zlib.crc32(named))
    return content


def png_of(pixels):
    return tf.io.encode_png(pixels).numpy()


def shorts(*values):
    return struct.pack(f">{len(values)}H", *values)


def over_white(color, alpha):
    return np.array(color) * alpha + 1 - alpha


TWO = bytes([10, 20, 30, 200, 210, 220])  # colors of a palette
FIRST, SECOND = np.array([10, 20, 30]) / 255, np.array([200, 210, 220]) / 255
KINDS = {  # a file, and its two pixels in [0, 1]
    "gray, 1 bit": (png(1, GRAY, [0b01000000]), (0, 1)),
    "gray, 2 bits": (png(2, GRAY, [0b01100000]), (1 / 3, 2 / 3)),
    "gray, 4 bits": (png(4, GRAY, [0x1A]), (1 / 15, 10 / 15)),
    "gray, 8 bits": (png(8, GRAY, [1, 200]), (1 / 255, 200 / 255)),
    "gray, 16 bits": (png(16, GRAY, shorts(1, 40000)), (1 / 65535, 40000 / 65535)),
    "gray, 4 bits, one transparent": (png(4, GRAY, [0x1A], tRNS=shorts(10)), (1 / 15, 1)),
    "gray, 16 bits, one transparent": (png(16, GRAY, shorts(1, 40000), tRNS=shorts(40000)), (1 / 65535, 1)),
    "gray and alpha, 8 bits": (png(8, GRAY_ALPHA, [7, 255, 200, 51]), (7 / 255, over_white(200 / 255, 0.2))),
    "gray and alpha, 16 bits": (
        png(16, GRAY_ALPHA, shorts(7, 65535, 200, 13107)),
        (7 / 65535, over_white(200 / 65535, 0.2)),
    ),
    "color, 8 bits": (png(8, COLOR, TWO), (FIRST, SECOND)),
    "color, 8 bits, one transparent": (png(8, COLOR, TWO, tRNS=shorts(200, 210, 220)), (FIRST, 1)),
    "color, 16 bits": (png(16, COLOR, shorts(*(257 * value for value in TWO))), (FIRST, SECOND)),
    "color and alpha": (png(8, COLOR_ALPHA, [10, 20, 30, 0, 200, 210, 220, 51]), (1, over_white(SECOND, 0.2))),
    "palette, 1 bit": (png(1, PALETTE, [0b01000000], PLTE=TWO), (FIRST, SECOND)),
    "palette, 4 bits": (png(4, PALETTE, [0x01], PLTE=TWO), (FIRST, SECOND)),
    "palette, 8 bits": (png(8, PALETTE, [0, 1], PLTE=TWO), (FIRST, SECOND)),
    "palette and alpha": (
        png(4, PALETTE, [0x01], PLTE=TWO, tRNS=bytes([255, 51])),
        (FIRST, over_white(SECOND, 0.2)),
    ),
}


def test_every_kind_of_png_is_decoded_over_white():
    sides = np.zeros((10, 60, 3), "uint8")
    sides[:, 20:40] = 255  # the center crop for a model of 1 x 2
    kinds = {
        **KINDS,
        "sides": (png_of(sides), (1, 1)),
        "gray JPEG": (tf.io.encode_jpeg(np.full((8, 16, 1), 50, "uint8")).numpy(), (50 / 255, 50 / 255)),
    }
    received = image_decoder((1, 2, 3))([file for file, _ in kinds.values()]).numpy()
    for name, image, (_, pixels) in zip(kinds, received, kinds.values(), strict=True):
        expected = [np.broadcast_to(pixel, 3) for pixel in pixels]
        np.testing.assert_allclose(image[0], expected, atol=1e-6, err_msg=name)


def test_image_files_give_the_same_outputs_as_their_pixels(loaded, growing_model, eight):
    files = tf.constant([png_of(np.rint(image * 255).astype("uint8")) for image in eight])
    encoded = loaded.signatures["encode_image_bytes"](image_bytes=files)
    expected = loaded.signatures["encode"](images=tf.constant(eight))
    assert set(encoded) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(encoded[name], values, atol=1e-6)
    images = loaded.signatures["reconstruct_image_bytes"](image_bytes=files)
    assert set(images) == {"images"}
    np.testing.assert_allclose(images["images"], growing_model.reconstruct(eight), atol=1e-6)
    nothing = loaded.signatures["reconstruct_image_bytes"](image_bytes=tf.constant([], tf.string))
    assert nothing["images"].shape == (0, 8, 8, 1)


def test_files_are_converted_like_those_of_image_folder(loaded, growing_model):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), "uint8") for size in ((24, 60), (61, 17), (3, 8), (1, 1))]
    red = np.full((8, 8, 3), [200, 100, 0], "uint8")
    files = [*map(png_of, images), tf.io.encode_jpeg(red, quality=100).numpy()]
    expected = np.stack([resize(center_crop(image, 8, 8), 8, 8) for image in (*images, red)])
    expected = (expected @ [[0.299], [0.587], [0.114]]).astype("float32")
    received = loaded.encode_image_bytes(tf.constant(files))["mean"]
    np.testing.assert_allclose(received[:-1], growing_model.encode(expected[:-1])[0], atol=1e-6)
    np.testing.assert_allclose(received[-1:], growing_model.encode(expected[-1:])[0], atol=0.01)  # JPEG rounds


GOOD, JPEG = png(8, GRAY, [1, 200]), tf.io.encode_jpeg(np.zeros((40, 40, 3), "uint8")).numpy()


def test_undecodable_files_raise_an_error_with_their_index(loaded):
    for files, message in (
        ([GOOD, b"<html>"], "must hold PNG or JPEG files; .* Received something else as item, counted from 0:] .1]"),
        ([b"", GOOD], "something else as item, counted from 0:] .0]"),
        ([GOOD, b"GIF89a", GOOD, b"BM"], "something else as item, counted from 0:] .1]"),
        ([GOOD, GOOD, GOOD[:-20]], "Received a broken one as item, counted from 0:] .2]"),
        ([GOOD, GOOD[:12]], "a broken one as item, counted from 0:] .1]"),
        ([JPEG, JPEG[: len(JPEG) // 2], GOOD], "a broken one as item, counted from 0:] .1]"),
        ([JPEG[:3], GOOD], "a broken one as item, counted from 0:] .0]"),
        (
            [GOOD, png(8, GRAY, [0], size=(6000, 7000))],
            "a larger one as item, counted from 0, of height and width:] .1] .7000 6000]",
        ),
        ([png(8, GRAY, [0], size=(2**31 - 1, 2**31 - 1))], "height and width:] .0] .2147483647 2147483647]"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            loaded.encode_image_bytes(tf.constant(files))


def test_two_channels_have_no_image_files_and_networks_are_traced_once(loaded, monkeypatch):
    """In mixed precision, of a model that does not grow; its outputs are float32 all the same."""
    calls = []
    for name in "encode", "decode":
        method = getattr(kp.BetaVAE, name)
        monkeypatch.setattr(kp.BetaVAE, name, lambda *args, n=name, f=method: calls.append(n) or f(*args))
    model = kp.BetaVAE((8, 8, 2), latent_dim=2, stem=(4,), channels=4, dense=8, dtype="mixed_bfloat16")
    _, signatures = traced_signatures(model)
    assert sorted(calls) == ["decode", "encode"]
    assert set(loaded.signatures) - set(signatures) == {"encode_image_bytes", "reconstruct_image_bytes"}
    images = np.random.default_rng(0).random((3, 8, 8, 2), dtype="float32")
    mean = signatures["encode"](images=tf.constant(images))["mean"]
    assert mean.dtype == tf.float32
    np.testing.assert_allclose(mean, model.encode(images)[0], atol=0.02, rtol=0.02)  # bfloat16: one part in 256
    metadata = describe(model)
    assert [metadata[name] for name in ("stage", "alpha", "iteration", "grown")] == [0, 1.0, 0, True]
