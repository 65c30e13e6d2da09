import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_provlae import presets
from keras_provlae.ladder import decoder_layers, decoder_network, encoder_layers, encoder_network, ladder_spec

SMALL = {"channels": 4, "dense": 8}


def networks(spec, dtype=None):
    return encoder_network(spec, encoder_layers(spec, dtype)), decoder_network(spec, decoder_layers(spec, dtype))


def preset_spec(name, **overrides):
    model = {**presets.preset(name)["model"], **overrides}
    return ladder_spec(**{key: value for key, value in model.items() if key not in ("beta", "gamma")})


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [
        (preset_spec("dsprites"), 5_712_237),
        (preset_spec("celeb_a"), 38_253_051),
    ],
)
def test_presets_have_the_authors_number_of_parameters(spec, parameters):
    assert sum(network.count_params() for network in networks(spec)) == parameters


@pytest.mark.parametrize(
    ("image_shape", "num_rungs"),
    [((8, 8, 1), 1), ((9, 9, 3), 4), ((28, 28, 1), 3), ((13, 64, 2), 2), ((31, 17, 4), 5)],
)
def test_decoded_images_have_the_size_of_the_encoded_ones(image_shape, num_rungs):
    encoder, decoder = networks(ladder_spec(image_shape, num_rungs, 2, channels=2, dense=3))
    gates = ops.ones(num_rungs)
    mean, log_var = encoder([ops.ones((2, *image_shape)), gates])
    assert tuple(mean.shape) == tuple(log_var.shape) == (2, 2 * num_rungs)
    logits = decoder([mean, gates])
    assert tuple(logits.shape) == (2, *image_shape)
    assert np.isfinite(logits).all()


@settings(max_examples=25, deadline=None)
@given(height=st.integers(8, 256), width=st.integers(8, 256), data=st.data())
def test_every_rung_halves_the_size_and_rounds_up(height, width, data):
    num_rungs = data.draw(st.integers(1, (min(height, width) - 1).bit_length()))
    spec = ladder_spec((height, width, 1), num_rungs, 2)
    for level in range(num_rungs):
        assert spec.size(level + 1) == tuple((side + 1) // 2 for side in spec.size(level))
    assert spec.size(0) == (height, width)


def test_maps_of_28_pixels_shrink_to_4_and_grow_back():
    encoder, decoder = networks(ladder_spec((28, 28, 1), 3, 2, **SMALL))
    assert [encoder.get_layer(f"h_{rung}").output.shape[1] for rung in (1, 2, 3)] == [14, 7, 4]
    assert [decoder.get_layer(f"g_{rung}_conv_1_affine").output.shape[1] for rung in (3, 2, 1)] == [4, 7, 14]


def test_codes_and_posteriors_are_ordered_deepest_first():
    spec = ladder_spec((16, 16, 1), 3, latent_dim=(1, 2, 3), **SMALL)  # rung 3 has three
    encoder, decoder = networks(spec)
    assert [encoder.get_layer(f"mean_{rung}").output.shape[1] for rung in (3, 2, 1)] == [3, 2, 1]
    images = np.random.default_rng(0).uniform(size=(2, 16, 16, 1)).astype("float32")
    encoder.get_layer("mean_3").bias.assign([100.0] * 3)
    mean, _ = encoder([ops.convert_to_tensor(images), ops.ones(3)])
    np.testing.assert_array_equal(ops.convert_to_numpy(mean) > 50, [[True] * 3 + [False] * 3] * 2)
    # only the first gate closes the first three columns of the codes
    codes = np.zeros((2, 6), "float32")
    codes[1, :3] = 1.0
    for gates, differ in ([0.0, 1.0, 1.0], False), ([1.0, 0.0, 0.0], True):
        first, second = ops.convert_to_numpy(decoder([ops.convert_to_tensor(codes), ops.convert_to_tensor(gates)]))
        assert (not np.array_equal(first, second)) == differ


def test_a_gate_of_the_encoder_scales_the_input_of_its_own_head_alone():
    encoder, _ = networks(ladder_spec((16, 16, 1), 2, 2, **SMALL))
    images = np.random.default_rng(0).uniform(size=(2, 16, 16, 1)).astype("float32")
    open_mean, _ = encoder([ops.convert_to_tensor(images), ops.convert_to_tensor([1.0, 1.0])])
    gated_mean, _ = encoder([ops.convert_to_tensor(images), ops.convert_to_tensor([1.0, 0.0])])
    np.testing.assert_array_equal(open_mean[:, :2], gated_mean[:, :2])  # the trunk to the deeper rung has no gate
    assert not np.allclose(open_mean[:, 2:], gated_mean[:, 2:])
    np.testing.assert_allclose(gated_mean[0, 2:], gated_mean[1, 2:], rtol=1e-6)  # the head sees zeros


def test_a_stem_is_mirrored_in_the_decoder():
    spec = ladder_spec((32, 32, 1), 1, 4, stem=(3, 5), **SMALL)
    encoder, decoder = networks(spec)
    assert encoder.get_layer("h_1").output.shape[1:3] == (4, 4)
    assert [decoder.get_layer(f"stem_{i}").output.shape[1:] for i in (2, 1)] == [(8, 8, 5), (16, 16, 3)]
    assert decoder.output_shape == (None, 32, 32, 1)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_posteriors_and_logits_are_float32_under_mixed_precision(dtype):
    encoder, decoder = networks(ladder_spec((9, 9, 1), 2, 2, **SMALL), dtype)
    assert encoder.get_layer("h_1").compute_dtype == dtype.removeprefix("mixed_")
    assert decoder.get_layer("m_1").compute_dtype == dtype.removeprefix("mixed_")
    assert {tensor.dtype for tensor in [*encoder.outputs, *decoder.outputs]} == {"float32"}


def test_networks_are_saved_without_their_model(tmp_path):
    spec = ladder_spec((9, 9, 1), 2, 2, **SMALL)
    images = np.random.default_rng(0).uniform(size=(2, 9, 9, 1)).astype("float32")
    encoder, decoder = networks(spec)
    mean, _ = encoder([ops.convert_to_tensor(images), ops.ones(2)])
    for network, inputs in (encoder, images), (decoder, mean):
        network.save(tmp_path / "network.keras")
        loaded = keras.models.load_model(tmp_path / "network.keras")
        for a, b in zip(
            keras.tree.flatten(network([ops.convert_to_tensor(inputs), ops.ones(2)])),
            keras.tree.flatten(loaded([ops.convert_to_tensor(inputs), ops.ones(2)])),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_rungs": 4}, "at least 1 and at most 3. Received: num_rungs=4. Use fewer rungs or larger images"),
        ({"num_rungs": 0}, "num_rungs=0"),
        ({"num_rungs": 3, "stem": (4,)}, "at most 2"),
        ({"stem": 8}, "`stem` must be a sequence of widths. Received: 8"),
        ({"head_dense": 32}, "`head_dense` must be a sequence of widths. Received: 32"),
        ({"head_convs": (8, 8, 8)}, r"`head_convs` must be a sequence of pairs \(channels, stride\). Received: 8"),
        ({"image_shape": 16}, r"Received: image_shape=\(16,\)"),
        ({"dense": 0}, "`dense`.*Received: 0"),
        ({"image_shape": (8, 8)}, r"\(height, width, channels\).*Received: image_shape=\(8, 8\)"),
        ({"image_shape": (8, 0, 1)}, "image_shape"),
        ({"latent_dim": 0}, "`latent_dim`.*Received: 0"),
        ({"latent_dim": (2, 2)}, r"one entry per rung, 3 here.*latent_dim=\(2, 2\)"),
        ({"channels": (4, 4, 4, 4)}, "`channels` must have one entry per rung"),
        ({"dense": -1}, "-1"),
        ({"decoder_convs": [((4, 1),), ((4, 2),), ((4, 2),)]}, r"exactly one stride-2.*Received at rung 1: \(\(4, 1\)"),
        ({"head_convs": [((4, 3),)] * 3}, r"stride 1 or 2. Received: \(4, 3\)"),
    ],
)
def test_errors_name_the_bad_number(settings, message):
    with pytest.raises(ValueError, match=message):
        ladder_spec(**{"image_shape": (8, 8, 1), "num_rungs": 3, "latent_dim": 2, **settings})


def test_numpy_numbers_are_accepted():
    spec = ladder_spec(
        np.array([8, 8, 1]), np.int64(2), np.array([1, 2]), channels=[np.int32(3), 4], stem=np.array([5])
    )
    assert spec == ladder_spec((8, 8, 1), 2, (1, 2), channels=(3, 4), stem=(5,))
    assert all(type(n) is int for n in (*spec.image_shape, *spec.latent_dim, *spec.channels, *spec.stem))


def test_num_rungs_must_be_an_integer():
    with pytest.raises(TypeError, match=r"num_rungs=2\.5"):
        ladder_spec((8, 8, 1), 2.5, 2)


def test_a_map_of_one_place_has_a_defined_gradient_in_bfloat16():
    """oneDNN leaves the gradient of a transposed convolution of stride 2 from one place to one uninitialized."""
    spec = ladder_spec((8, 8, 1), 3, 2, **SMALL)
    conv = next(
        layer for layer in decoder_layers(spec).rungs[0].convs if isinstance(layer, keras.layers.Conv2DTranspose)
    )
    conv.build((None, 1, 1, 2))
    place = np.ones((1, 1, 1, 2), "float32")
    stride_2 = keras.layers.Conv2DTranspose(**{**conv.get_config(), "strides": 2, "output_padding": 1})
    stride_2.build((None, 1, 1, 2))
    stride_2.kernel.assign(conv.kernel)
    assert conv.strides == (1, 1)
    np.testing.assert_array_equal(conv(place), stride_2(place))
