"""Checks of what enters a model: the rule, what was received, what to do."""

import contextlib
import math
import re
from numbers import Real
from typing import Any

import keras
from keras import ops

PIXEL_RULE = (
    "Images must hold finite values in [0, 1]: divide 8-bit images by 255 and remove NaN. "
    "This batch does not (lowest and highest value received: {low}, {high})."
)
LOSS_RULE = (
    "The loss is not finite, so training stopped here. Lower the learning rate or beta, lengthen the "
    "fade-in, or use a dtype policy with a wider range. Terms of this batch: reconstruction {low}, KL {high}."
)


def non_negative(name: str, value: float) -> float:
    """`value` as a float, or a `ValueError` that names it."""
    if not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}.")
    if not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be a number >= 0. Received: {name}={value}.")
    return float(value)


def check_images(images: Any, image_shape: tuple) -> None:
    """Raises a clear error for images of a wrong type, rank or size.

    Args:
        images: Array or tensor `(batch, height, width, channels)`.
        image_shape: What the model was built for, `(height, width, channels)`.

    Raises:
        TypeError: If `images` is not one tensor or not floating point.
        ValueError: If the shape is wrong.
    """
    if isinstance(images, (dict, list, tuple)) or not hasattr(images, "shape"):
        raise TypeError(
            "Images must be one array or tensor, so a data set must yield images alone or (images, labels). "
            f"Received: {_describe(images)}. For a dict use `ds.map(lambda example: example['image'])`."
        )
    dtype = keras.backend.standardize_dtype(images.dtype)
    if not dtype.startswith(("float", "bfloat")):
        raise TypeError(
            "Images must be floating point in [0, 1]. "
            f"Received: dtype={dtype}. Use `ops.cast(images, 'float32') / 255` for 8-bit images."
        )
    if getattr(images.shape, "rank", 0) is None:  # only a traced TensorFlow tensor hides its rank
        images.set_shape((None, *image_shape))
    shape = tuple(images.shape)
    if len(shape) != 4 or any(a not in (None, b) for a, b in zip(shape[1:], image_shape, strict=True)):
        raise ValueError(
            f"Images must have the shape (batch, {', '.join(map(str, image_shape))}) that the model was built for. "
            f"Received: images.shape={shape}. Batch the data set, add missing axes, resize, or build a model with "
            "another `image_shape`."
        )


def check_pixels(images: Any) -> None:
    """Raises a clear error for pixels that are NaN or outside [0, 1]; traced tensors pass.

    Args:
        images: Float array or tensor of any shape.

    Raises:
        ValueError: If a value is NaN or outside [0, 1].
    """
    images = ops.convert_to_tensor(images)
    if _is_traced(images):
        return  # `require` looks at the values when the step runs
    pixels = ops.convert_to_numpy(images)
    low, high = pixels.min(initial=1), pixels.max(initial=0)  # NaN wins both, and fails the comparison
    if not (low >= 0 and high <= 1):
        raise ValueError(PIXEL_RULE.format(low=low, high=high))


def _is_traced(tensor):
    if isinstance(tensor, keras.KerasTensor):
        return True
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.is_symbolic_tensor(tensor)
    if keras.backend.backend() == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    return tensor.device.type == "meta"  # where Keras on torch infers shapes


def check_data(data: Any, image_shape: tuple, steps: int | None = 1) -> None:
    """Checks what `fit` is given, as far as it can be seen before the first step.

    Args:
        data: Array, tensor or `tf.data.Dataset`; anything else, such as what `tf.distribute` makes of a data set, is
            left to the steps.
        image_shape: What the model was built for, `(height, width, channels)`.
        steps: How many batches are taken, or `None` for all there are.

    Raises:
        TypeError, ValueError: As `check_images` and `check_pixels`. If the data have no end and `steps` none either.
    """
    if hasattr(data, "tf_dataset"):
        raise TypeError(
            "A ground truth is no batches of images: give its `tf_dataset(batch_size, seed=0)`. "
            f"Received: {type(data).__name__}."
        )
    if steps is None and hasattr(data, "cardinality") and int(data.cardinality()) == -1:
        raise ValueError("The data set has no end: give the number of steps as well, or leave out `.repeat()`.")
    if _is_tf_dataset(data):
        spec = data.element_spec
        check_images(spec[0] if isinstance(spec, tuple) else spec, image_shape)
    elif hasattr(data, "shape"):
        check_images(data, image_shape)
        check_pixels(data)


def without_autotuner(data: Any) -> Any:
    """A `tf.data.Dataset` of the same batches that tf.data does not tune while they are read.

    The thread that tunes wakes up after 10 ms, 20 ms, 40 ms and so on; an epoch that ends while it sleeps often waits
    until it does, up to as long as the epoch took (TensorFlow 2.21). Without it `tf.data.AUTOTUNE` means as many
    calls at a time as there are processors.

    Args:
        data: What `fit` is given; anything but a data set is returned as it is, and so is one whose
            `options().autotune.enabled` somebody set.

    Returns:
        A data set like `data`.
    """
    if not _is_tf_dataset(data) or data.options().autotune.enabled is not None:
        return data
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def _is_tf_dataset(data):
    return hasattr(data, "element_spec") and hasattr(data, "map")  # a distributed data set has no `map`


def checked_while_read(data: Any) -> Any:
    """A `tf.data.Dataset` of the same batches whose images are checked before a step sees them.

    For steps in which `require` cannot stop in time: TensorFlow drops it where it compiles with XLA,
    and a JAX step gives its state away when it starts, so the weights would be gone with it.

    Args:
        data: What `fit` is given; anything but a data set is returned as it is.

    Returns:
        A data set like `data`.
    """
    if not _is_tf_dataset(data):
        return data
    import tensorflow as tf

    def check(images, *labels):
        low, high = tf.reduce_min(images), tf.reduce_max(images)
        images = _require_in_tensorflow(images, (low >= 0) & (high <= 1), PIXEL_RULE, low, high)
        return (images, *labels) if labels else images

    return data.map(check)


def require(tensor: Any, condition: Any, rule: str, low: Any, high: Any) -> Any:
    """The tensor, if `condition` holds; else a stop, inside a compiled step as well.

    No gradient passes before the condition is checked, so the step that fails changes no weight.
    `readable_errors` turns what the backend makes of the stop into a `ValueError`.
    TensorFlow drops the check where it compiles with XLA (`jit_compile=True`): see `checked_while_read`.

    Args:
        tensor: Tensor that later work depends on.
        condition: Bool tensor, scalar.
        rule: Text with `{low}` and then `{high}`.
        low: Float tensor, scalar, put into the text.
        high: Float tensor, scalar, put into the text.

    Returns:
        `tensor`.

    Raises:
        ValueError: If the condition fails, or the backend's own error around it.
    """
    if not _is_traced(condition):
        _raise_unless(condition, low, high, rule=rule)
    elif keras.backend.backend() == "tensorflow":
        return _require_in_tensorflow(tensor, condition, rule, low, high)
    elif keras.backend.backend() == "jax":
        import jax

        jax.debug.callback(_raise_unless, condition, low, high, rule=rule)
    return tensor


def _require_in_tensorflow(tensor, condition, rule, low, high):
    import tensorflow as tf

    before, between, after = re.split("{low}|{high}", f"<<{rule}>>")

    @tf.custom_gradient
    def checked(tensor):
        # tf.function leaves the order of assertions open: without the dependency, weights come first
        with tf.control_dependencies([tf.debugging.Assert(condition, [before, low, between, high, after])]):
            passed = tf.identity(tensor)

        def gradient(upstream):
            with tf.control_dependencies([passed]):
                return tf.identity(upstream)

        return passed, gradient

    return checked(tensor)


def _raise_unless(condition, low, high, rule):
    if not condition:
        raise ValueError(f"<<{rule}>>".format(low=float(low), high=float(high)))


class FiniteLoss(keras.callbacks.Callback):
    """Ends the training where an epoch's loss is not finite, for steps that drop `require`; a guard knows better."""

    def on_epoch_end(self, epoch, logs=None):
        if not self.model.is_guarded and not math.isfinite(logs["loss"]):
            raise ValueError(LOSS_RULE.format(low=logs["reconstruction"], high=logs["kl"]))


@contextlib.contextmanager
def readable_errors():
    """Turns a failed `require`, whatever the backend wrapped it in, into a plain `ValueError`."""
    try:
        yield
    except Exception as error:
        rule = re.search("<<(.*?)>>", str(error), re.DOTALL)
        if rule is None:
            raise
        raise ValueError(rule[1].replace("] [", "")) from None


def _describe(value):
    if isinstance(value, dict):
        return f"a dict with the keys {sorted(map(str, value))}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{type(value).__name__}"
