"""Data with known factors, read in batches and encoded."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_provlae.metrics.posteriors import check_count, check_seed, random_rows, to_numpy

BATCH = 256  # images encoded at once
FEWEST_ROWS = 100  # fewer are not worth a score, however short the time


def has_rungs(model: Any) -> bool:
    """Whether a model can be encoded rung by rung, as a `LadderVAE`."""
    return hasattr(model, "encode") and hasattr(model, "rung_slices")


class Stream(NamedTuple):
    """Batches of images and factors."""

    batches: Callable[[np.ndarray | None], Iterable]  # of all rows, or of some
    rows: int | None  # None where it is not known before the end
    batch_size: int
    endless: bool = False


def read(ground_truth: Any, batch_size: int) -> Stream:
    """The data as batches of (images, factors), whatever they come as.

    Args:
        ground_truth: What `evaluate` takes.
        batch_size: Int >= 1.

    Returns:
        A `Stream`.

    Raises:
        TypeError, ValueError: If it is none of these, or images and factors differ in number.
    """
    check_count("batch_size", batch_size)
    if callable(getattr(ground_truth, "images", None)) and callable(getattr(ground_truth, "factors", None)):
        count = len(ground_truth)

        def batches(rows):
            for index in _parts(rows, count, batch_size):
                factors = ground_truth.factors(index)
                yield ground_truth.images(factors), factors

        return Stream(batches, count, batch_size)
    if isinstance(ground_truth, tuple) and len(ground_truth) == 2:
        images, factors = _indexed("images", ground_truth[0]), _indexed("factors", ground_truth[1])
        count = len(images)
        if len(factors) != count:
            raise ValueError(f"Images and factors must have as many rows. Received: {count} and {len(factors)}.")

        def batches(rows):
            for index in _parts(rows, count, batch_size):
                yield images[index], factors[index]

        return Stream(batches, count, batch_size)
    if isinstance(ground_truth, Iterable):
        endless = hasattr(ground_truth, "cardinality") and int(ground_truth.cardinality()) == -1
        return Stream(lambda rows: _pairs(ground_truth), None, batch_size, endless)
    raise TypeError(
        "`ground_truth` must be a ground-truth data set with `factors(index)` and `images(factors)`, a pair of arrays "
        f"(images, factors), or a data set of such batches. Received: {type(ground_truth).__name__}."
    )


def _indexed(name, data):
    """Data that rows can be taken from: NumPy arrays and the like as they are, tensors and lists made into one."""
    if hasattr(data, "shape") and not keras.ops.is_tensor(data):
        return data
    if isinstance(data, dict):
        raise TypeError(f"`{name}` must be one array; stack the values of the dict. Received: {sorted(data)}.")
    return to_numpy(name, data)


def _parts(rows, count, batch_size):
    rows = np.arange(count) if rows is None else rows
    return (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))


def _pairs(batches):
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2 or any(isinstance(part, dict) for part in batch):
            raise TypeError(
                f"The data set must give batches of (images, factors), two arrays. Received: {type(batch).__name__}. "
                "Two arrays of all rows are given as a tuple (images, factors)."
            )
        yield batch


def encode(
    model: keras.Model,
    stream: Stream,
    allowed: float | None,
    progress: bool,
    seed: int | None,
    num_images: int | None = None,
) -> list[np.ndarray]:
    """Mean, log variance and factors of all rows or, where time is short, of a random subset.

    Args:
        model: A model with `encode`, and `encode_on_batch` if it has a faster way.
        stream: What `read` returns.
        allowed: Float or `None`. Seconds that it may take; a data set that can only be read from
            the beginning is read to its end.
        progress: Bool. Show a progress bar.
        seed: Int or `None`. Seed of the subset.
        num_images: Int >= 2 or `None`. Rows at most.

    Returns:
        Three arrays with one row for each image.

    Raises:
        ValueError: If there is no batch, or no end of them.
    """
    if stream.endless:
        raise ValueError("The data set must have an end: leave out `.repeat()`, or add `.take(batches)`.")
    if stream.rows == 0:
        raise ValueError("The data must have at least one image. Received: none.")
    if num_images is not None:
        check_count("num_images", num_images, least=2)
        if stream.rows is None:
            raise ValueError("`num_images` needs data that can be read anywhere. Of a data set take `.take(batches)`.")
    encode_batch = getattr(model, "encode_on_batch", model.encode)
    affordable = math.inf if num_images is None else num_images
    if allowed is not None and stream.rows is not None:
        affordable = min(affordable, max(int(_encoding_rate(encode_batch, stream) * allowed), FEWEST_ROWS))
    rows = None
    if stream.rows is not None and affordable < stream.rows:
        rows = random_rows(stream.rows, affordable, seed)
    total = stream.rows if rows is None else len(rows)
    bar = keras.utils.Progbar(total, unit_name="image") if progress else None
    parts, count = [], 0
    for images, factors in stream.batches(rows):
        mean, log_var = encode_batch(images)
        parts.append([keras.ops.convert_to_numpy(part) for part in (mean, log_var, factors)])
        count += len(parts[-1][0])
        if bar is not None and total is not None:
            bar.update(count, finalize=count == total)
    if bar is not None and total is None:
        bar.update(count, finalize=True)
    if not parts:
        raise ValueError("The data set must have at least one batch. Received: none.")
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def held_subset(ground_truth: Any, num_images: int, seed: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Some images and their factors in memory: random ones, or the first of a data set that is read in order.

    Args:
        ground_truth: What `evaluate` takes, or images alone: an array, or a data set of batches.
        num_images: Int >= 2. How many images, where there are that many.
        seed: Int or `None`. Seed of the choice.

    Returns:
        `(images, factors)`, NumPy arrays; factors are `None` where there are images alone.

    Raises:
        TypeError, ValueError: If the data are unfit or fewer than two images.
    """
    check_count("num_images", num_images, least=2)
    check_seed(seed)
    if hasattr(ground_truth, "shape"):
        images = _indexed("images", ground_truth)
        return _at_least_two(to_numpy("images", images[random_rows(len(images), num_images, seed)])), None
    if hasattr(getattr(ground_truth, "element_spec", None), "shape"):
        batches = ((images, None) for images in ground_truth)
    else:
        stream = read(ground_truth, batch_size=num_images)
        batches = stream.batches(None if stream.rows is None else random_rows(stream.rows, num_images, seed))
    images, factors, count = [], [], 0
    for some_images, some_factors in batches:
        images.append(to_numpy("images", some_images))
        factors.append(None if some_factors is None else to_numpy("factors", some_factors))
        count += len(images[-1])
        if count >= num_images:
            break
    held = _at_least_two(np.concatenate(images)[:num_images] if images else ())
    return held, None if factors[0] is None else np.concatenate(factors)[:num_images]


def _at_least_two(images):
    if len(images) < 2:
        raise ValueError(f"At least two images are needed. Received: {len(images)}.")
    return images


def encode_all(model: keras.Model, images: np.ndarray, batch_size: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log variance of images in memory, in batches: float32 arrays `(images, latents)`."""
    encode_batch = getattr(model, "encode_on_batch", model.encode)
    parts = [encode_batch(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    mean, log_var = zip(*parts, strict=True)
    return (
        np.concatenate([keras.ops.convert_to_numpy(part) for part in mean]),
        np.concatenate([keras.ops.convert_to_numpy(part) for part in log_var]),
    )


def check_encodable(model: keras.Model, images: np.ndarray) -> None:
    """Raises what `encode` would raise of any of these images, for the work of one batch: before an epoch is spent.

    All have one shape and one type, so the first batch stands for these; only pixels can be unfit further on.
    """
    encode_all(model, images[:BATCH])
    fit = ((images >= 0) & (images <= 1)).reshape(len(images), -1).all(axis=1)
    if not fit.all():
        encode_all(model, images[~fit][:1])


def _encoding_rate(encode_batch, stream):
    """Images per second, of the second of two batches: the first may compile."""
    some = np.linspace(0, stream.rows - 1, min(2 * stream.batch_size, stream.rows)).astype("int64")
    rate = math.inf
    begin = time.perf_counter()
    for images, _ in stream.batches(some):
        mean, _ = encode_batch(images)
        count = len(keras.ops.convert_to_numpy(mean))
        rate, begin = count / max(time.perf_counter() - begin, 1e-9), time.perf_counter()
    return rate
