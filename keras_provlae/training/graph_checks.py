"""Checks that run inside a training step, on every backend, and the way their errors come back out."""

import contextlib
import functools
import re
from typing import Any

import keras
from keras import ops

from keras_provlae.training import errors
from keras_provlae.training.image_checks import PIXEL_RULE, in_range, is_tf_dataset, is_traced, pixel_advice

LOSS_RULE = (
    "The loss is not finite, so training stopped here. Lower the learning rate or beta, lengthen the "
    "fade-in, or use a dtype policy with a wider range. Terms of this batch: reconstruction {low}, KL {high}."
)


def require_pixels(images: Any) -> Any:
    """Returns the images once their values are known to be in [0, 1].

    Args:
        images: Float tensor of any shape.

    Raises:
        InvalidImagesError: If a value is NaN or outside [0, 1] by more than `image_checks.OVERSHOOT`.
    """
    low, high = ops.min(images, initial=1.0), ops.max(images, initial=0.0)
    return require(images, in_range(low, high), errors.InvalidImagesError, PIXEL_RULE, low, high)


def require_finite(loss: Any, reconstruction: Any, kl: Any) -> Any:
    """Returns the loss once it is known to be finite.

    Args:
        loss: Float tensor, scalar.
        reconstruction: Float tensor, scalar, for the message.
        kl: Float tensor, scalar, for the message.

    Raises:
        NonFiniteLossError: If the loss is NaN or infinite; the step changes no weight.
    """
    return require(loss, ops.isfinite(loss), errors.NonFiniteLossError, LOSS_RULE, reconstruction, kl)


def leave_to_callback(loss: Any, reconstruction: Any, kl: Any) -> Any:
    """Returns the loss as it is: a callback of this `fit` deals with losses that are not finite."""
    return loss


def require(tensor: Any, condition: Any, error: type[ValueError], rule: str, low: Any, high: Any) -> Any:
    """Returns the tensor if a condition holds, and stops the step otherwise.

    The gradient waits for the check as well, so a step that fails changes no weight. `readable_errors` turns whatever
    the backend raises into `error`. XLA drops the check in TensorFlow (`jit_compile=True`), and a JAX step has given
    its state away when the check runs: use `checked_while_read` there.

    Args:
        tensor: Tensor that later work depends on.
        condition: Bool tensor, scalar.
        error: A class of `training.errors`.
        rule: Message with `{low}` and then `{high}`.
        low: Float tensor, scalar, put into the message.
        high: Float tensor, scalar, put into the message.

    Raises:
        ValueError: `error`, or the backend's own error around its message.
    """
    if not is_traced(condition):
        _raise_unless(condition, low, high, error, _named(error, rule))  # Keras wraps the message in its own
    elif keras.backend.backend() == "tensorflow":
        return _require_in_tensorflow(tensor, condition, error, rule, low, high)
    elif keras.backend.backend() == "jax":
        import jax

        check = functools.partial(_raise_unless, error=error, rule=_named(error, rule))
        jax.debug.callback(check, condition, low, high)
    return tensor


def checked_while_read(data: Any) -> Any:
    """A `tf.data.Dataset` of the same batches that checks the images before a step gets them.

    Needed where `require` cannot stop a step in time: under XLA and on JAX.

    Args:
        data: What `fit` is given; anything but a data set is returned unchanged.

    Returns:
        A data set like `data`.
    """
    if not is_tf_dataset(data):
        return data
    import tensorflow as tf

    def check(images, *labels):
        low, high = tf.reduce_min(images), tf.reduce_max(images)
        images = _require_in_tensorflow(images, in_range(low, high), errors.InvalidImagesError, PIXEL_RULE, low, high)
        return (images, *labels) if labels else images

    return data.map(check)


@contextlib.contextmanager
def readable_errors():
    """Turns a failed `require`, whatever the backend wrapped it in, into the error that it names."""
    try:
        yield
    except Exception as error:
        found = re.search(r"<<(\w+): (.*?)>>", str(error), re.DOTALL)
        if found is None:
            raise
        kind, message = getattr(errors, found[1]), found[2].replace("] [", "")
        raise kind(pixel_advice(message)) from None


def _named(error, rule):
    """The rule, marked with the class of its error: a compiled step can only raise text."""
    return f"<<{error.__name__}: {rule}>>"


def _require_in_tensorflow(tensor, condition, error, rule, low, high):
    import tensorflow as tf

    before, between, after = re.split("{low}|{high}", _named(error, rule))

    @tf.custom_gradient
    def checked(tensor):
        # tf.function leaves the order of assertions open: without the dependency, weights may change first
        with tf.control_dependencies([tf.debugging.Assert(condition, [before, low, between, high, after])]):
            passed = tf.identity(tensor)

        def gradient(upstream):
            with tf.control_dependencies([passed]):
                return tf.identity(upstream)

        return passed, gradient

    return checked(tensor)


def _raise_unless(condition, low, high, error, rule):
    if not condition:
        raise error(rule.format(low=_number(low), high=_number(high)))


def _number(scalar):
    """An int stays one: a rule may name a count."""
    return ops.convert_to_numpy(scalar).item()
