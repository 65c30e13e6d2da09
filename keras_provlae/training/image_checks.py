"""Checks of images and data sets before a step sees them; every error says what to do."""

import math
import re
from typing import Any

import keras
from keras import ops

from keras_provlae.training.errors import InvalidImagesError

OVERSHOOT = 1e-3  # how far rounding may take a pixel out of [0, 1]: antialiased resizing does by 2e-7
OWN_LOSS_RULE = "The model computes its own loss (equation 11), every image with the same weight: leave out `{name}`."
PIXEL_RULE = (
    "Images must hold finite values in [0, 1]. This batch does not (lowest and highest value received: {low}, {high})."
)
EMPTY_RULE = "`{method}` needs at least one image. Received: {received}."


def check_images(images: Any, image_shape: tuple) -> None:
    """Checks the type, rank and size of images.

    Args:
        images: Array or tensor `(batch, height, width, channels)`.
        image_shape: `(height, width, channels)` of the model.

    Raises:
        TypeError: If `images` is not one tensor or not floating point.
        InvalidImagesError: If the shape is wrong.
    """
    if isinstance(images, (dict, list, tuple)) or not hasattr(images, "shape"):
        raise TypeError(
            "Images must be one array or tensor, so a data set must yield images alone or (images, labels). "
            f"Received: {_describe(images)}. "
            + ("For a dict use `ds.map(lambda example: example['image'])`." if isinstance(images, dict) else "")
            + ("Make one array of it: `np.asarray(images)`." if isinstance(images, list) else "")
        )
    dtype = keras.backend.standardize_dtype(images.dtype)
    if not dtype.startswith(("float", "bfloat")):
        raise TypeError(
            "Images must be floating point in [0, 1]. "
            f"Received: dtype={dtype}. For 8-bit images use `images.astype('float32') / 255` (`tf.cast` for a tensor)."
        )
    if getattr(images.shape, "rank", 0) is None:  # only a traced TensorFlow tensor hides its rank
        images.set_shape((None, *image_shape))
    shape = tuple(images.shape)
    if len(shape) != 4 or any(a not in (None, b) for a, b in zip(shape[1:], image_shape, strict=True)):
        raise InvalidImagesError(
            f"Images must have the shape (batch, {', '.join(map(str, image_shape))}) that the model was built for. "
            f"Received: images.shape={shape}. Batch the data set, add missing axes, resize, or build a model with "
            "another `image_shape`."
        )


def check_pixels(images: Any) -> None:
    """Checks that all pixels are in [0, 1] and not NaN; traced tensors pass.

    Args:
        images: Float array or tensor of any shape.

    Raises:
        InvalidImagesError: If a value is NaN, or outside [0, 1] by more than `OVERSHOOT`.
    """
    images = ops.convert_to_tensor(images)
    if is_traced(images):
        return  # `require` looks at the values when the step runs
    pixels = ops.convert_to_numpy(images)
    low, high = pixels.min(initial=1), pixels.max(initial=0)  # NaN wins both, and fails the comparison
    if not in_range(low, high):
        raise InvalidImagesError(pixel_advice(PIXEL_RULE.format(low=low, high=high)))


def within_unit(images: Any) -> Any:
    """Clips the overshoot that `check_pixels` lets pass.

    Args:
        images: Float array or tensor of any shape.

    Returns:
        Tensor like `images`: values in [0, 1].
    """
    return ops.clip(ops.convert_to_tensor(images), 0.0, 1.0)


def in_range(low: Any, high: Any) -> Any:
    """Checks that the lowest and the highest pixel are in [0, 1] up to `OVERSHOOT`; False for NaN."""
    return (low >= -OVERSHOOT) & (high <= 1.0 + OVERSHOOT)


def pixel_advice(message: str) -> str:
    """Appends advice to the message of `PIXEL_RULE`, from the two values it names; other messages stay as they are."""
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


def is_traced(tensor: Any) -> bool:
    """Returns whether the values of a tensor are not known yet: a graph is being traced."""
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
    """Checks the data of `fit`, `evaluate` or `predict` as far as possible before the first step.

    Args:
        data: Array, tensor or `tf.data.Dataset`; anything else, such as a distributed data set or a `PyDataset`, is
            checked step by step.
        image_shape: `(height, width, channels)` of the model.
        steps: Number of batches to take, or `None` for all.
        method: `"fit"`, `"evaluate"` or `"predict"`; `predict` accepts zero images.
        name: Name of the argument.

    Raises:
        TypeError: As `check_images`.
        ValueError: As `check_images` and `check_pixels`; if the data set is infinite and `steps` is missing, or if
            there is no image.
    """
    if hasattr(data, "tf_dataset"):
        raise TypeError(
            f"`{name}` needs batches of images: pass `truth.tf_dataset(batch_size, seed=0)`, or without TensorFlow "
            "`truth.batches(batch_size, seed=0)`. "
            f"Received: {type(data).__name__}."
        )
    counts = callable(getattr(data, "cardinality", None))
    batches = int(data.cardinality()) if counts else None  # -1: no end, -2: not known
    if isinstance(data, keras.utils.PyDataset):
        batches = -1 if data.num_batches is None else data.num_batches
    if steps is None and batches == -1:
        steps_name = {"x": "steps_per_epoch" if method == "fit" else "steps"}.get(name, "validation_steps")
        raise ValueError(f"The data set `{name}` is infinite: pass `{steps_name}` as well, or leave out `.repeat()`.")
    if is_tf_dataset(data):
        check_images(_images_of(data.element_spec), image_shape)
    elif hasattr(data, "shape"):
        check_images(data, image_shape)
        check_pixels(data)
    if method != "predict" and (batches == 0 or (hasattr(data, "shape") and data.shape[0] == 0)):
        what = "a data set without a batch" if batches == 0 else f"{name}.shape={tuple(data.shape)}"
        raise InvalidImagesError(EMPTY_RULE.format(method=method, received=what))


def check_validation_data(data: Any, image_shape: tuple, steps: int | None = None) -> Any:
    """Checks `validation_data` of `fit` before the first step, including the pixels of its first batch.

    Args:
        data: Array, `(images, labels)`, `tf.data.Dataset`, or an iterable of batches.
        image_shape: `(height, width, channels)` of the model.
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
        raise InvalidImagesError(EMPTY_RULE.format(method="fit", received="a data set without a batch"))
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
    """Returns whether an array is empty or a `tf.data.Dataset` without a batch; False for anything else."""
    if hasattr(data, "shape"):
        return data.shape[0] == 0
    if not is_tf_dataset(data):
        return False
    batches = int(data.cardinality())
    return batches == 0 or (batches == -2 and next(iter(data.take(1)), None) is None)  # -2: not known


def _again(first, batches):
    """Yields a first batch that was already taken, then the rest."""
    yield first
    yield from batches


def _images_of(batch):
    """The images of a batch (or of an `element_spec`): alone or before labels."""
    return batch[0] if isinstance(batch, tuple) else batch


def is_tf_dataset(data: Any) -> bool:
    """Returns whether data are a `tf.data.Dataset`, and not the distributed one of `tf.distribute`."""
    return hasattr(data, "element_spec") and hasattr(data, "map")


def _is_distributed(data):
    return hasattr(data, "element_spec") and not hasattr(data, "map")


def _describe(value):
    if isinstance(value, dict):
        return f"a dict with the keys {sorted(map(str, value))}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{type(value).__name__}"
