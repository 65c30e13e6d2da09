"""One network on one batch, compiled."""

from typing import Any

import keras


def predict_on_batch(network: keras.Model, inputs: list) -> Any:
    """As `network.predict_on_batch`, traced once for all batch sizes.

    TensorFlow would trace for the first batch size, and again for another.

    Args:
        network: A functional model with several inputs.
        inputs: One array or tensor per input.

    Returns:
        NumPy arrays, as `predict_on_batch`.
    """
    if keras.backend.backend() == "tensorflow" and network.predict_function is None:
        import tensorflow as tf

        network.make_predict_function()
        if hasattr(network.predict_function, "get_concrete_function"):  # not where functions run eagerly
            specs = [tf.TensorSpec(x.shape, x.dtype) for x in network.inputs]
            network.predict_function.get_concrete_function([(specs,)])
    return network.predict_on_batch([keras.ops.convert_to_numpy(x) for x in inputs])
