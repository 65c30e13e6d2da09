"""One network on one batch."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_provlae.training import replicas


def on_any_rows(function: Callable[[Any], Any], rows: Any) -> Any:
    """Calls a function of a batch that may be empty, which it computes with a row of zeros.

    On processors where TensorFlow computes convolutions by oneDNN, that of an empty batch returns its input. A batch of
    unknown size can only be empty on a replica, at the end of a pass.

    Args:
        function: A function of `rows` that treats every row by itself.
        rows: Array or tensor `(batch, ...)`.

    Returns:
        What the function returns: tensors `(batch, ...)`.
    """
    number = ops.shape(rows)[0]
    may_be_empty = number == 0 if isinstance(number, int) else replicas.count() > 1
    if not may_be_empty:
        return function(rows)
    zeros = ops.zeros((1, *rows.shape[1:]), rows.dtype)[: 1 - ops.minimum(number, 1)]
    outputs = function(ops.concatenate([rows, zeros]))
    return keras.tree.map_structure(lambda output: output[:number], outputs)


def predict_on_batch(network: keras.Model, *inputs: Any) -> Any:
    """As `network.predict_on_batch`, traced once for all batch sizes.

    TensorFlow would trace for the first batch size, and again for another.

    Args:
        network: A functional model with several inputs.
        *inputs: One array or tensor per input.

    Returns:
        NumPy arrays, as `predict_on_batch`.
    """
    if keras.backend.backend() == "tensorflow" and network.predict_function is None:
        import tensorflow as tf

        network.make_predict_function()
        trace = getattr(network.predict_function, "get_concrete_function", None)
        if trace is not None:  # not where functions run eagerly
            trace([([tf.TensorSpec(x.shape, x.dtype) for x in network.inputs],)])
    return network.predict_on_batch([ops.convert_to_numpy(x) for x in inputs])
