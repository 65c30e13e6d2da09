"""How graphs are called on TensorFlow: a training step in `fit`, and a network on one batch."""

import weakref
from collections.abc import Callable
from typing import Any

import keras


def step_function(train_step: Callable, otherwise: Callable) -> Callable:
    """A function of an iterator that does one training step, with less between two steps than Keras's own has.

    That wraps the logs in an optional, asks it whether it has a value and takes that out, and looks for the traced
    function anew at every step: of a step of 28 x 28 on a CPU a twentieth. The end of the data reaches `fit` as the
    error of the iterator, as it does there.

    Args:
        train_step: From what the iterator yields to the logs.
        otherwise: Keras's function, for an iterator that is not TensorFlow's: that of `train_on_batch`.

    Returns:
        A function from an iterator to the logs, `{name: scalar tensor}`.

    Example:
        >>> import tensorflow as tf
        >>> step = step_function(lambda x: {"sum": tf.reduce_sum(x)}, otherwise=None)
        >>> float(step(iter(tf.data.Dataset.from_tensors([1.0, 2.0])))["sum"])
        3.0
    """
    import tensorflow as tf

    @tf.function(autograph=False, reduce_retracing=True)
    def step(iterator):
        return train_step(keras.tree.map_structure(_none_for_optional, iterator.get_next()))

    traced = weakref.WeakKeyDictionary()  # by iterator: there is a new one for every epoch

    def function(iterator: Any) -> dict[str, Any]:
        if not isinstance(iterator, tf.data.Iterator):
            return otherwise(iterator)
        if iterator not in traced:
            traced[iterator] = step.get_concrete_function(iterator)
        return traced[iterator](iterator)

    return function


def predict_on_batch(network: keras.Model, inputs: list) -> Any:
    """`network.predict_on_batch`, traced once: TensorFlow else does it for the first size of batch and for another.

    Args:
        network: A functional model with several inputs.
        inputs: An array or tensor for each.

    Returns:
        NumPy arrays, as `predict_on_batch`.
    """
    if keras.backend.backend() == "tensorflow" and network.predict_function is None:
        import tensorflow as tf

        network.make_predict_function()
        if hasattr(network.predict_function, "get_concrete_function"):  # it is not run eagerly
            specs = [tf.TensorSpec(x.shape, x.dtype) for x in network.inputs]
            network.predict_function.get_concrete_function([(specs,)])
    return network.predict_on_batch([keras.ops.convert_to_numpy(x) for x in inputs])


def _none_for_optional(part):
    """Keras writes None in a data set as an empty optional."""
    import tensorflow as tf

    return None if isinstance(part, tf.experimental.Optional) else part
