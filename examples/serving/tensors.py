"""Converts the JSON of predict requests to arrays and back, by the rules of TensorFlow Serving's REST API."""

import base64
import binascii
import itertools
from typing import Any

import numpy as np
import orjson
import tensorflow as tf


class BadRequestError(ValueError):
    """A malformed request; the message goes to the client."""


def parse_request(body: bytes) -> tuple[str, bool, Any]:
    """Parses the body of a predict request.

    Args:
        body: JSON with `inputs` (columns: one array per input) or `instances` (rows: one entry per image), and
            optionally `signature_name` (default `serving_default`).

    Returns:
        `(signature_name, has_rows, values)`, where values are the `inputs` or `instances`.

    Raises:
        BadRequestError: If the body is not such JSON.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(
            f"The body must be JSON, without NaN and not nested deeper than 1,000: {error}."
        ) from None
    if not isinstance(request, dict):
        raise BadRequestError(f"The body must be a JSON object. Received: a {_kind(request)}.")
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise BadRequestError(f"`signature_name` must be a string. Received: a {_kind(name)}.")
    name = name or "serving_default"
    if ("inputs" in request) == ("instances" in request):
        raise BadRequestError("The body must have either `inputs` (columns) or `instances` (rows).")
    if "inputs" in request:
        return name, False, request["inputs"]
    rows = request["instances"]
    if not isinstance(rows, list) or not rows:
        raise BadRequestError("`instances` must be a non-empty list.")
    return name, True, rows


def to_arrays(values: Any, has_rows: bool, specs: dict[str, tf.TensorSpec]) -> dict[str, np.ndarray]:
    """Converts the values of a request to one array per input of the signature.

    Args:
        values: Values from `parse_request`. Strings are text, or bytes as `{"b64": "..."}`.
        has_rows: Whether `values` are rows.
        specs: Inputs of the signature, by name.

    Returns:
        A dict from name to array, of the dtype and a shape that the signature takes; strings as bytes.

    Raises:
        BadRequestError: If an input is missing or unknown, or its values or shape do not fit.
    """
    columns = _columns(values, specs) if has_rows else values
    if len(specs) == 1 and (not isinstance(columns, dict) or _is_base64(columns)):
        columns = {next(iter(specs)): columns}
    if not isinstance(columns, dict):
        raise BadRequestError(f"This signature has several inputs. Name them: {sorted(specs)}.")
    if set(columns) != set(specs):
        raise BadRequestError(f"This signature has the inputs {sorted(specs)}. Received: {sorted(columns)}.")
    return {name: _to_array(name, columns[name], spec, has_rows) for name, spec in specs.items()}


def to_json(outputs: dict[str, np.ndarray], has_rows: bool) -> bytes:
    """Builds the answer to a predict request: `predictions`, one per row, or `outputs`.

    Args:
        outputs: Arrays by name.
        has_rows: Whether the request had rows.

    Returns:
        JSON. As in TensorFlow Serving, a single output has no name; strings are text, or `{"b64": "..."}` if the name
        of the output ends in `_bytes`.

    Raises:
        BadRequestError: If the outputs cannot be split into rows, or are not finite.
    """
    outputs = {name: _to_numbers_or_text(name, array) for name, array in outputs.items()}
    if not all(array.dtype == object or np.isfinite(array).all() for array in outputs.values()):
        raise BadRequestError("The answer is not finite: the inputs are too large.")
    single = next(iter(outputs.values())) if len(outputs) == 1 else None
    if not has_rows:
        answer = {"outputs": outputs if single is None else single}
    elif len({array.shape[:1] for array in outputs.values()}) != 1 or () in {a.shape for a in outputs.values()}:
        raise BadRequestError("The outputs differ in their batch: use `inputs` (columns) with this signature.")
    elif single is not None:
        answer = {"predictions": single}
    else:
        rows = zip(*outputs.values(), strict=True)
        answer = {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}
    return orjson.dumps(answer, default=np.ndarray.tolist, option=orjson.OPT_SERIALIZE_NUMPY)


def _to_numbers_or_text(name, array):
    array = np.asarray(array, order="C")
    if array.dtype != object:
        return array
    try:
        return np.vectorize(_to_base64 if name.endswith("_bytes") else bytes.decode, otypes=[object])(array)
    except UnicodeDecodeError:
        raise BadRequestError(f"The output `{name}` is not text, so its name must end in `_bytes`.") from None


def _to_base64(value):
    return {"b64": base64.b64encode(value).decode()}


def _is_base64(value):
    """Returns whether a value is TensorFlow Serving's form of bytes, not a dict of inputs."""
    return isinstance(value, dict) and set(value) == {"b64"}


def _columns(rows, specs):
    """Turns rows of named inputs into one list per name; returns rows of a single input unchanged."""
    if not isinstance(rows[0], dict) or _is_base64(rows[0]):
        return rows
    for row in rows:
        if not isinstance(row, dict) or set(row) != set(rows[0]):
            raise BadRequestError(f"All `instances` must name the same inputs: {sorted(specs)}.")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _to_array(name, values, spec, has_rows):
    integers = spec.dtype.is_integer
    array = _strings(name, values) if spec.dtype == tf.string else _numbers(name, values, integers)
    if integers and array.size and not spec.dtype.min <= array.min() <= array.max() <= spec.dtype.max:
        raise BadRequestError(
            f"`{name}` must be {spec.dtype.name}, {spec.dtype.min} .. {spec.dtype.max}. "
            f"Received: {array.min()} .. {array.max()}."
        )
    if not spec.shape.is_compatible_with(array.shape):
        hint = " Scalars have no rows: use `inputs` instead of `instances`." if has_rows and spec.shape == () else ""
        wanted = ", ".join("any" if size is None else str(size) for size in spec.shape)
        received = ", ".join(map(str, array.shape))
        raise BadRequestError(f"`{name}` must have the shape ({wanted}). Received: ({received}).{hint}")
    with np.errstate(over="ignore"):  # overflow to infinity is rejected by the graph
        return array.astype(spec.dtype.as_numpy_dtype)


def _numbers(name, values, integers):
    _check_leaves(name, values, integers)
    try:
        return np.array(values)
    except ValueError:
        raise BadRequestError(f"`{name}` must be a number or lists of equal lengths.") from None


def _strings(name, values):
    """Builds an array of bytes; messages count items across nested lists, from 0."""
    shape, level = [], [values]
    while level and type(level[0]) is list:
        sizes = {len(value) if type(value) is list else None for value in level}
        if len(sizes) > 1 or len(shape) == 32:  # NumPy allows no more dimensions
            raise BadRequestError(f"`{name}` must be a string or lists of equal lengths.")
        shape.append(len(level[0]))
        level = list(itertools.chain.from_iterable(level))
    array = np.empty(len(level), object)
    array[:] = [_to_bytes(name, item, value) for item, value in enumerate(level)]
    return array.reshape(shape)


def _to_bytes(name, item, value):
    if isinstance(value, str):
        return value.encode()
    if not _is_base64(value) or not isinstance(value["b64"], str):
        raise BadRequestError(
            f'`{name}` must hold strings, or bytes as {{"b64": "..."}}. Received: a {_kind(value)} as item {item}.'
        )
    text = "".join(value["b64"].split())  # the base64 command wraps lines
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequestError(
            f"`{name}` must hold plain base64, without a `data:...,` prefix. Received as item {item}, counted from 0: "
            f"{text[:30]!r}. {error}."
        ) from None


def _check_leaves(name, values, integers):
    """Checks the types before NumPy sees them: it would allocate the longest string for every item."""
    allowed, level = ({int} if integers else {int, float}), [values]
    while level:
        wrong = set(map(type, level)) - {list} - allowed
        if wrong:
            kinds = " and ".join(sorted(map(_KINDS.__getitem__, wrong)))
            is_file = any(map(_is_base64, level))
            hint = " Send files to `encode_image_bytes` or `reconstruct_image_bytes`." if is_file else ""
            raise BadRequestError(
                f"`{name}` must hold only {'integers' if integers else 'numbers'}. Received: {kinds}.{hint}"
            )
        level = list(itertools.chain.from_iterable(value for value in level if type(value) is list))


_KINDS = {
    dict: "object",
    list: "list",
    str: "string",
    bool: "boolean",
    int: "number",
    float: "fraction or too large number",
    type(None): "null",
}


def _kind(value):
    return _KINDS[type(value)]
