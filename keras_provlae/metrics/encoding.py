"""Reads data with known factors in batches and encodes it."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_provlae.checks import check_count, check_seed
from keras_provlae.metrics.flow import check_slices
from keras_provlae.metrics.posteriors import check_labels, check_names, random_rows, to_numpy

BATCH = 256  # images encoded at once
FEWEST_ROWS = 100  # a time limit never cuts below this


def has_rungs(model: Any) -> bool:
    """Checks if a model has `encode` and `rung_slices`, as a `LadderVAE` has."""
    return hasattr(model, "encode") and hasattr(model, "rung_slices")


class Stream(NamedTuple):
    """Batches of images and factors."""

    batches: Callable[[np.ndarray | None], Iterable]  # takes row numbers, or None for all rows
    rows: int | None  # None if unknown before the end
    batch_size: int
    endless: bool = False
    factors: Callable[[np.ndarray | None], Any] | None = None  # as `batches`; None if factors come only with images


def read(ground_truth: Any, batch_size: int, factor_names: Sequence[str] | None = None) -> Stream:
    """Opens data of any supported form as batches of (images, integer factors). Checks each batch as it is read.

    Args:
        ground_truth: Data in any form that `evaluate` takes.
        batch_size: Int >= 1.
        factor_names: Names of the factors, or `None`.

    Returns:
        A `Stream`.

    Raises:
        TypeError, ValueError: If the form is not supported, or the numbers of images and factors differ. While
            reading a batch: if its factors are not integers, or their number differs from `factor_names` or from
            the first batch.
    """
    check_count("batch_size", batch_size)
    stream = _opened(ground_truth, batch_size)
    return stream._replace(batches=lambda rows: _checked(stream.batches(rows), factor_names))


def _opened(ground_truth, batch_size):
    """Opens a stream of unchecked (images, factors); factors are `None` if the data set has only images."""
    if callable(getattr(ground_truth, "images", None)) and callable(getattr(ground_truth, "factors", None)):
        count = len(ground_truth)

        def batches(rows):
            for index in _parts(rows, count, batch_size):
                factors = ground_truth.factors(index)
                yield ground_truth.images(factors), factors

        def factors_of(rows):
            return ground_truth.factors(np.arange(count) if rows is None else rows)

        return Stream(batches, count, batch_size, factors=factors_of)
    if isinstance(ground_truth, tuple) and len(ground_truth) == 2:
        images, factors = _indexed("images", ground_truth[0]), _indexed("factors", ground_truth[1])
        count = len(images)
        if len(factors) != count:
            raise ValueError(f"Images and factors must have as many rows. Received: {count} and {len(factors)}.")

        def batches(rows):
            for index in _parts(rows, count, batch_size):
                yield images[index], factors[index]

        def factors_of(rows):
            return factors[:] if rows is None else factors[rows]

        return Stream(batches, count, batch_size, factors=factors_of)
    if isinstance(ground_truth, keras.utils.PyDataset):
        return Stream(
            lambda rows: (_pair(ground_truth[number]) for number in range(len(ground_truth))), None, batch_size
        )
    if isinstance(ground_truth, Iterable):
        endless = hasattr(ground_truth, "cardinality") and int(ground_truth.cardinality()) == -1
        return Stream(lambda rows: map(_pair, ground_truth), None, batch_size, endless)
    raise TypeError(
        "`ground_truth` must be a ground-truth data set with `factors(index)` and `images(factors)`, a pair of arrays "
        "(images, factors), or an iterable of such batches: a tf.data.Dataset, PyTorch DataLoader, PyDataset or list. "
        f"Received: {type(ground_truth).__name__}."
    )


def _indexed(name, data):
    """Returns data that can be indexed by row: array-likes as is, tensors and lists as NumPy arrays."""
    if hasattr(data, "shape") and not keras.ops.is_tensor(data):
        return data
    if isinstance(data, dict):
        raise TypeError(f"`{name}` must be one array; stack the values of the dict. Received: {sorted(data)}.")
    return to_numpy(name, data)


def _parts(rows, count, batch_size):
    rows = np.arange(count) if rows is None else rows
    return (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))


def _pair(batch):
    """Splits a batch into (images, factors); factors are `None` if it has only images, bare or in a tuple."""
    parts = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    if len(parts) not in (1, 2) or any(isinstance(part, dict) for part in parts):
        _refuse(batch)
    return (*parts, None)[:2]


def _refuse(batch):
    raise TypeError(
        f"The data set must yield batches of (images, factors), two arrays. Received: {type(batch).__name__}. "
        "Pass two arrays with all rows as a tuple (images, factors)."
    )


def _checked(batches, factor_names):
    """Checks each batch before it is encoded and yields (images, integer factors)."""
    number = None
    for images, factors in batches:
        if factors is None:
            _refuse(images)
        labels = check_labels(factors, factor_names)
        if number is None:
            number = labels.shape[1]
            check_names(factor_names, number)
        if labels.shape[1] != number:
            raise ValueError(f"Every batch must have {number} factors, as the first. Received: {labels.shape[1]}.")
        if len(labels) != len(images):
            raise ValueError(
                f"Images and factors of a batch must have as many rows. Received: {len(images)} and {len(labels)}."
            )
        yield images, labels


def check_readable(stream: Stream, num_images: int | None) -> None:
    """Checks that data is finite, has at least two rows, and can be indexed by row if `num_images` is given."""
    if stream.endless:
        raise ValueError("The data set must have an end: leave out `.repeat()`, or add `.take(batches)`.")
    if stream.rows is not None and stream.rows < 2:
        raise ValueError(f"The data must have at least two images. Received: {stream.rows}.")
    if num_images is not None:
        check_count("num_images", num_images, least=2)
        if stream.rows is None:
            raise ValueError("`num_images` needs data that can be indexed by row. Use `.take(batches)` on a data set.")


def encode(
    model: keras.Model,
    stream: Stream,
    allowed: float | None,
    progress: bool,
    seed: int | None,
    num_images: int | None = None,
) -> list[np.ndarray]:
    """Encodes all rows, or a random subset if time is short.

    Args:
        model: A model with `encode`, and optionally a faster `encode_on_batch`.
        stream: A stream opened by `read`.
        allowed: Float or `None`. Time limit in seconds. A data set that cannot be indexed by row is read to its
            end regardless.
        progress: Bool. Show a progress bar.
        seed: Int or `None`. Seed of the subset.
        num_images: Int >= 2 or `None`. Maximum number of rows.

    Returns:
        `[mean, log_var, factors]`, arrays with one row per image.

    Raises:
        TypeError, ValueError: If the stream is empty or endless, a batch is invalid, or `model.rung_slices` does
            not match the codes.
    """
    check_readable(stream, num_images)
    encode_batch = getattr(model, "encode_on_batch", model.encode)
    affordable = math.inf if num_images is None else num_images
    if allowed is not None and stream.rows is not None:
        affordable = min(affordable, max(int(_encoding_rate(encode_batch, stream) * allowed), FEWEST_ROWS))
    rows = None
    if stream.rows is not None and affordable < stream.rows:
        rows = random_rows(stream.rows, int(affordable), seed)
    total = stream.rows if rows is None else len(rows)
    bar = keras.utils.Progbar(total, unit_name="image") if progress else None
    parts: list[list[np.ndarray]] = []
    count = 0
    for images, factors in stream.batches(rows):
        mean, log_var = encode_batch(_as_array(images))
        if not parts and has_rungs(model):
            check_slices(model.rung_slices, mean.shape[1])
        parts.append([keras.ops.convert_to_numpy(part) for part in (mean, log_var, factors)])
        count += len(parts[-1][0])
        if bar is not None and total is not None:
            bar.update(count, finalize=count == total)
    if bar is not None and total is None:
        bar.update(count, finalize=True)
    if not parts:
        raise ValueError("The data set must have at least one batch. Received: none.")
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _as_array(images):
    """Converts images to a NumPy array unless they are one or a tensor of the current backend."""
    return images if isinstance(images, np.ndarray) or keras.ops.is_tensor(images) else to_numpy("images", images)


def held_subset(ground_truth: Any, num_images: int, seed: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Loads a subset of the images and their factors into memory.

    Args:
        ground_truth: Data in any form that `evaluate` takes, or only images: an array or batches.
        num_images: Int >= 2. Maximum number of images.
        seed: Int or `None`. Seed of the random subset. Data that cannot be indexed by row yields its first images.

    Returns:
        `(images, factors)`, NumPy arrays; factors are `None` if the data has only images.

    Raises:
        TypeError, ValueError: If the data is invalid or has fewer than two images.
    """
    check_count("num_images", num_images, least=2)
    check_seed(seed)
    if hasattr(ground_truth, "shape"):
        images = _indexed("images", ground_truth)
        return _at_least_two(to_numpy("images", images[random_rows(len(images), num_images, seed)])), None
    stream = _opened(ground_truth, batch_size=num_images)
    rows = None if stream.rows is None else random_rows(stream.rows, num_images, seed)
    factors: list[Any] = []
    images, count = [], 0
    for some_images, some_factors in stream.batches(rows):
        images.append(to_numpy("images", some_images))
        if images[-1].shape[1:] != images[0].shape[1:]:
            raise ValueError(
                f"All batches must have images of one shape. Received: {images[0].shape} and {images[-1].shape}. "
                "Two arrays with all rows are given as a tuple (images, factors)."
            )
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
    """Encodes images in batches: returns mean and log variance, float32 arrays `(images, latents)`."""
    encode_batch, images = getattr(model, "encode_on_batch", model.encode), _as_array(images)
    parts = [encode_batch(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    mean, log_var = zip(*parts, strict=True)
    return (
        np.concatenate([keras.ops.convert_to_numpy(part) for part in mean]),
        np.concatenate([keras.ops.convert_to_numpy(part) for part in log_var]),
    )


def check_encodable(model: keras.Model, images: np.ndarray) -> None:
    """Rejects images that `encode` would reject, at the cost of encoding one batch.

    All images share one shape and type, so the first batch covers these. Beyond it only pixel values can be invalid.
    """
    encode_all(model, images[:BATCH])
    valid = ((images >= 0) & (images <= 1)).reshape(len(images), -1).all(axis=1)
    if not valid.all():
        encode_all(model, images[~valid][:1])


def _encoding_rate(encode_batch, stream):
    """Measures images per second on the second of two batches, since the first may compile."""
    some = np.linspace(0, stream.rows - 1, min(2 * stream.batch_size, stream.rows)).astype("int64")
    rate = math.inf
    begin = time.perf_counter()
    for images, _ in stream.batches(some):
        mean, _ = encode_batch(_as_array(images))
        count = len(keras.ops.convert_to_numpy(mean))
        rate, begin = count / max(time.perf_counter() - begin, 1e-9), time.perf_counter()
    return rate
