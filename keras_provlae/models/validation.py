"""Checks of what enters a model: the rule, what was received, what to do."""

import contextlib
import math
import re
from numbers import Real
from typing import Any

import keras
from keras import ops

OVERSHOOT = 1e-3  # how far rounding may take a pixel out of [0, 1]: antialiased resizing does by 2e-7
OWN_LOSS_RULE = "The model computes its own loss (equation 11), every image with the same weight: leave out `{name}`."
PIXEL_RULE = (
    "Images must hold finite values in [0, 1]. This batch does not (lowest and highest value received: {low}, {high})."
)
EMPTY_RULE = "`{method}` needs at least one image. Received: {received}."
NO_BATCH_RULE = (
    "The data set gave no batch. Look at what filters it, and at `drop_remainder=True` with fewer images than a batch."
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
        ValueError: If a value is NaN, or outside [0, 1] by more than `OVERSHOOT`.
    """
    images = ops.convert_to_tensor(images)
    if _is_traced(images):
        return  # `require` looks at the values when the step runs
    pixels = ops.convert_to_numpy(images)
    low, high = pixels.min(initial=1), pixels.max(initial=0)  # NaN wins both, and fails the comparison
    if not in_range(low, high):
        raise ValueError(_with_advice(PIXEL_RULE.format(low=low, high=high)))


def within_unit(images: Any) -> Any:
    """Clips the overshoot that `check_pixels` lets pass.

    Args:
        images: Float array or tensor of any shape.

    Returns:
        Tensor like `images`: values in [0, 1].
    """
    return ops.clip(ops.convert_to_tensor(images), 0.0, 1.0)


def in_range(low: Any, high: Any) -> Any:
    """Whether the lowest and the highest pixel, two scalars, are in [0, 1] up to `OVERSHOOT`; NaN is not."""
    return (low >= -OVERSHOOT) & (high <= 1.0 + OVERSHOOT)


def _with_advice(message):
    """The message of `PIXEL_RULE`, and what its two numbers point to."""
    received = re.search(r"received: (\S+), (\S+)\)", message)
    if received is None:
        return message
    low, high = map(float, received.groups())
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{message} Remove or replace NaN and infinite pixels."
    if low >= 0 and high > 2:
        return f"{message} Divide 8-bit images by 255."
    if low >= -0.3 and high <= 1.3:
        return f"{message} This looks like the overshoot of an interpolation: clip it, `ops.clip(images, 0, 1)`."
    return f"{message} Map [-1, 1] to [0, 1] by `(images + 1) / 2`; undo any other normalization likewise."


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


def check_data(data: Any, image_shape: tuple, steps: int | None, method: str, name: str = "x") -> None:
    """Checks what `fit`, `evaluate` or `predict` is given, as far as it can be seen before the first step.

    Args:
        data: Array, tensor or `tf.data.Dataset`; anything else, such as what `tf.distribute` makes of a data set, is
            left to the steps.
        image_shape: What the model was built for, `(height, width, channels)`.
        steps: How many batches are taken, or `None` for all there are.
        method: `"fit"`, `"evaluate"` or `"predict"`, which takes no image as well.
        name: Name of the argument.

    Raises:
        TypeError, ValueError: As `check_images` and `check_pixels`. If the data have no end and `steps` none either,
            or if there is no image.
    """
    if hasattr(data, "tf_dataset"):
        raise TypeError(
            f"`{name}` needs batches of images: pass `truth.tf_dataset(batch_size, seed=0)`. "
            f"Received: {type(data).__name__}."
        )
    counts = callable(getattr(data, "cardinality", None))
    batches = int(data.cardinality()) if counts else None  # -1: no end, -2: not known
    if steps is None and batches == -1:
        steps_name = {"x": "steps_per_epoch" if method == "fit" else "steps"}.get(name, "validation_steps")
        raise ValueError(f"The data set `{name}` has no end: pass `{steps_name}` as well, or leave out `.repeat()`.")
    if _is_tf_dataset(data):
        check_images(_images_of(data.element_spec), image_shape)
    elif hasattr(data, "shape"):
        check_images(data, image_shape)
        check_pixels(data)
    if method != "predict" and (batches == 0 or (hasattr(data, "shape") and data.shape[0] == 0)):
        what = "a data set without a batch" if batches == 0 else f"{name}.shape={tuple(data.shape)}"
        raise ValueError(EMPTY_RULE.format(method=method, received=what))


def check_validation_data(data: Any, image_shape: tuple, steps: int | None = None) -> Any:
    """Checks `validation_data` of `fit` before the first step, the pixels of its first batch included.

    Args:
        data: Array, `(images, labels)`, `tf.data.Dataset`, or an iterable of batches.
        image_shape: What the model was built for, `(height, width, channels)`.
        steps: `validation_steps`, or `None`.

    Returns:
        `data`, or a generator of the same batches where one was given.

    Raises:
        TypeError, ValueError: As `check_data`.
    """
    try:
        return _checked_validation_data(data, image_shape, steps)
    except (TypeError, ValueError) as error:
        raise type(error)(f"`validation_data`: {error}") from None


def _checked_validation_data(data, image_shape, steps):
    images, _, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise ValueError(OWN_LOSS_RULE.format(name="the sample weights"))
    check_data(images, image_shape, steps, "fit", "validation_data")
    if hasattr(images, "shape") or not hasattr(images, "__iter__") or _is_distributed(images):
        return data
    batches = iter(images)
    first = next(batches, None)
    if first is None:
        raise ValueError(EMPTY_RULE.format(method="fit", received="a data set without a batch"))
    if batches is images and not isinstance(first, tuple):
        raise TypeError(
            "A Python generator must yield tuples, `(images,)` or `(images, labels)`, as Keras asks. "
            f"Received: one that yields {_describe(first)}."
        )
    batch = _images_of(first)
    check_images(batch, image_shape)
    check_pixels(ops.convert_to_numpy(batch))
    return _again(first, batches) if batches is images else data


def has_no_image(data: Any) -> bool:
    """Whether an array is empty or a `tf.data.Dataset` without a batch; False for anything else."""
    if hasattr(data, "shape"):
        return data.shape[0] == 0
    if not _is_tf_dataset(data):
        return False
    batches = int(data.cardinality())
    return batches == 0 or (batches == -2 and next(iter(data.take(1)), None) is None)  # -2: not known


def _again(first, batches):
    """A generator whose first batch was taken already."""
    yield first
    yield from batches


def _images_of(batch):
    """The images of a batch, or of what a data set says of its batches: alone or before labels."""
    return batch[0] if isinstance(batch, tuple) else batch


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
    return hasattr(data, "element_spec") and hasattr(data, "map")


def _is_distributed(data):
    return hasattr(data, "element_spec") and not hasattr(data, "map")


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
        images = _require_in_tensorflow(images, in_range(low, high), PIXEL_RULE, low, high)
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


class EpochChecks(keras.callbacks.Callback):
    """Ends `fit` or `evaluate` that had no batch, and `fit` at a loss that is not finite (where steps drop `require`).

    A guard deals with such losses itself.
    """

    async_safe = True

    def on_epoch_end(self, epoch, logs=None):
        if not logs:
            raise ValueError(NO_BATCH_RULE)
        if not self.model.is_guarded and not math.isfinite(logs["loss"]):
            raise ValueError(LOSS_RULE.format(low=logs["reconstruction"], high=logs["kl"]))

    def on_test_end(self, logs=None):
        if not logs:
            raise ValueError(NO_BATCH_RULE)


@contextlib.contextmanager
def readable_errors():
    """Turns a failed `require`, whatever the backend wrapped it in, into a plain `ValueError`."""
    try:
        yield
    except Exception as error:
        rule = re.search("<<(.*?)>>", str(error), re.DOTALL)
        if rule is None:
            raise
        raise ValueError(_with_advice(rule[1].replace("] [", ""))) from None


def _describe(value):
    if isinstance(value, dict):
        return f"a dict with the keys {sorted(map(str, value))}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{type(value).__name__}"
