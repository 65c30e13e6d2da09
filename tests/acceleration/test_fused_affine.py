"""The fused affine equals the layer in values and gradients."""

import numpy as np
import pytest
import tensorflow as tf

from keras_provlae.acceleration.fused_affine import affine
from keras_provlae.layers import ChannelAffine


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("shape", [(2, 12, 11, 6), (2, 3, 4, 6), (3, 6)])
def test_values_and_gradients_equal_those_of_the_layer(dtype, shape):
    random, layer = np.random.default_rng(0), ChannelAffine(epsilon=0.3, dtype=dtype)
    layer.build(shape)
    layer.gain.assign(random.normal(size=6))
    layer.offset.assign(random.normal(size=6))
    x, upstream = (tf.Variable(random.normal(size=shape), dtype=layer.compute_dtype) for _ in range(2))
    found = []
    for compute in layer, lambda x: affine(layer, x):
        with tf.GradientTape() as tape:
            y = compute(x.value())
        assert y.dtype == layer.compute_dtype
        found.append([y, *tape.gradient(y, [x, layer.gain.value, layer.offset.value], upstream)])
    tolerance = {"float32": 1e-5, "mixed_bfloat16": 0.05, "float64": 1e-12}[dtype]
    for ours, theirs in zip(*found, strict=True):
        ours, theirs = (tf.cast(value, "float64").numpy() for value in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize(("shape", "fused"), [((2, 12, 11, 6), True), ((2, 3, 4, 6), False)])
def test_only_large_maps_are_fused(shape, fused):
    layer = ChannelAffine()
    layer.build(shape)
    graph = tf.function(lambda x: affine(layer, x)).get_concrete_function(tf.TensorSpec(shape)).graph
    assert any(op.type == "FusedBatchNormV3" for op in graph.get_operations()) == fused
