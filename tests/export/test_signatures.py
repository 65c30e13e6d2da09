import itertools

import numpy as np
import pytest
import tensorflow as tf


def ask(loaded, signature, **inputs):
    """Calls a signature with arrays by name; integers become int32."""
    tensors = {name: tf.constant(value, tf.int32 if isinstance(value, int) else None) for name, value in inputs.items()}
    return {name: output.numpy() for name, output in loaded.signatures[signature](**tensors).items()}


def close(a, b):
    np.testing.assert_allclose(a, np.asarray(b), atol=1e-6, rtol=0)


def test_encode_returns_the_model_s_posterior_whole_and_by_rung(loaded, growing_model, eight):
    mean, log_var = growing_model.encode(eight)
    outputs = ask(loaded, "encode", images=eight)
    close(outputs.pop("mean"), mean)
    close(outputs.pop("log_var"), log_var)
    assert set(outputs) == {f"{name}_rung_{rung}" for name in ("mean", "log_var") for rung in (1, 2, 3)}
    for rung, columns in growing_model.rung_slices:
        close(outputs[f"mean_rung_{rung}"], mean[:, columns])
        close(outputs[f"log_var_rung_{rung}"], log_var[:, columns])


def test_the_batch_size_is_dynamic(loaded, growing_model, eight):
    expected = np.asarray(growing_model.reconstruct(eight[:3]))
    for batch in 1, 3:
        for signature in "reconstruct", "serving_default":
            close(ask(loaded, signature, images=eight[:batch])["images"], expected[:batch])
    codes = np.random.default_rng(0).standard_normal((3, 6), dtype="float32")
    close(ask(loaded, "decode", codes=codes)["images"], growing_model.decode(codes))


def test_sample_equals_the_model_s_for_every_seed(loaded, growing_model):
    sample = ask(loaded, "sample", n=4, seed=7)["images"]
    close(sample, growing_model.sample(4, seed=7))
    assert np.array_equal(sample, ask(loaded, "sample", n=4, seed=7)["images"])
    assert not np.allclose(sample, ask(loaded, "sample", n=4, seed=8)["images"])
    for seed in -1, 2**31 - 1:
        close(ask(loaded, "sample", n=2, seed=seed)["images"], growing_model.sample(2, seed=seed))


def test_sample_rung_draws_one_rung_of_every_image(loaded, growing_model, eight):
    images = ask(loaded, "sample_rung", images=eight[:2], rung=2, n=3, seed=1)["images"]
    close(images[:3], growing_model.sample(3, rung=2, around=eight[:1], seed=1))
    close(images[3:], growing_model.sample(3, rung=2, around=eight[1:2], seed=1))
    assert np.ptp(images[:3], axis=0).max() > 1e-3


def test_a_locked_rung_does_not_change_the_image(loaded, growing_model, eight):
    images = ask(loaded, "sample_rung", images=eight[:1], rung=1, n=3, seed=1)["images"]
    close(images, np.repeat(growing_model.reconstruct(eight[:1]), 3, axis=0))


def test_swap_rung_takes_one_rung_from_the_other_image(loaded, growing_model, eight):
    codes, others = (np.array(growing_model.encode(images)[0]) for images in (eight[:3], eight[3:6]))
    codes[:, 3:5] = others[:, 3:5]
    images = ask(loaded, "swap_rung", images=eight[:3], others=eight[3:6], rung=2)["images"]
    close(images, growing_model.decode(codes))


def test_traverse_sets_one_latent_to_every_value(loaded, growing_model, eight):
    codes = np.repeat(growing_model.encode(eight[:2])[0], 3, axis=0)
    values = np.array([-2.0, 0.0, 2.0], "float32")
    codes[:, 4] = np.tile(values, 2)
    images = ask(loaded, "traverse", images=eight[:2], latent=4, values=values)["images"]
    close(images, growing_model.decode(codes))


@pytest.mark.parametrize(
    ("signature", "rest"),
    [
        ("encode", {}),
        ("swap_rung", {"rung": 3}),
        ("traverse", {"latent": 0, "values": np.array([1.0], "float32")}),
    ],
)
def test_uint8_images_are_floats_times_255(loaded, eight, signature, rest):
    floats = {"images": eight[:2], **({"others": eight[2:4]} if signature == "swap_rung" else {})}
    integers = {name: np.rint(images * 255).astype("uint8") for name, images in floats.items()}
    expected = ask(loaded, signature, **floats, **rest)
    received = ask(loaded, f"{signature}_uint8", **integers, **rest)
    assert set(received) == set(expected)
    for name, values in expected.items():
        close(received[name], values)
        assert values.dtype == np.float32


def test_loaded_functions_take_both_dtypes_and_plain_numbers(loaded, growing_model, eight):
    mean, _ = growing_model.encode(eight)
    close(loaded.encode(eight)["mean"], mean)
    close(loaded.encode(np.rint(eight * 255).astype("uint8"))["mean"], mean)
    close(loaded.sample(2, 0)["images"], growing_model.sample(2, seed=0))


HUGE = np.array(list(itertools.product((3e38, -3e38), repeat=6)), "float32")  # some of these overflow to NaN


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("encode", {"images": np.full((1, 8, 8, 1), 255.0, "float32")}, "finite values in [0, 1]"),
        ("encode", {"images": np.full((1, 8, 8, 1), np.nan, "float32")}, "finite values in [0, 1]"),
        ("encode", {"images": np.full((1, 8, 8, 1), -0.01, "float32")}, "received:] [-0.01"),
        ("decode", {"codes": HUGE}, "`codes` must be smaller: the images are not finite"),
        ("reconstruct", {"images": np.zeros((1, 7, 8, 1), "float32")}, "expected shape [?,8,8,1]"),
        ("decode", {"codes": np.full((1, 6), np.inf, "float32")}, "`codes` must be finite"),
        ("decode", {"codes": np.zeros((1, 5), "float32")}, "expected shape [?,6]"),
        ("sample", {"n": 0, "seed": 0}, "`n` must be at least 1. Received:] [0]"),
        ("sample_rung", {"images": 0, "rung": 4, "n": 1, "seed": 0}, "`rung` must be 1 .. 3. Received:] [4]"),
        ("sample_rung", {"images": 0, "rung": 0, "n": 1, "seed": 0}, "`rung` must be 1 .. 3. Received:] [0]"),
        ("sample_rung", {"images": 0, "rung": 1, "n": -1, "seed": 0}, "`n` must be at least 1. Received:] [-1]"),
        ("swap_rung", {"images": 0, "others": np.zeros((2, 8, 8, 1), "float32"), "rung": 1}, "of the same size"),
        ("swap_rung", {"images": 0, "others": np.full((1, 8, 8, 1), 2, "float32"), "rung": 1}, "finite values"),
        ("traverse", {"images": 0, "latent": 6, "values": np.zeros(2, "float32")}, "`latent` must be 0 .. 5, a"),
        ("traverse", {"images": 0, "latent": -1, "values": np.zeros(2, "float32")}, "Received:] [-1]"),
        ("traverse", {"images": 0, "latent": 0, "values": np.full(2, np.nan, "float32")}, "`values` must be fin"),
    ],
)
def test_bad_values_raise_an_error_with_the_rule(loaded, eight, signature, inputs, message):
    if isinstance(inputs.get("images"), int):
        inputs = {**inputs, "images": eight[:1]}
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        ask(loaded, signature, **inputs)
    assert message in str(error.value)


def test_an_empty_batch_gives_no_images(loaded):
    nothing = np.zeros((0, 8, 8, 1), "float32")
    assert ask(loaded, "reconstruct", images=nothing)["images"].shape == (0, 8, 8, 1)
    assert ask(loaded, "sample_rung", images=nothing, rung=1, n=3, seed=0)["images"].shape == (0, 8, 8, 1)
