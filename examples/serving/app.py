"""The HTTP interface: TensorFlow Serving's REST paths, and the latent explorer."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import numpy as np
import orjson
import tensorflow as tf
from fastapi import FastAPI, HTTPException, Request, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from .tensors import BadRequestError, parse_request, to_arrays, to_json
from .versions import Version, WatchedModel

PAGE = Path(__file__).with_name("explorer.html")
MODEL = "/v1/models/{name}"
MAX_EXAMPLES = 24


class Limits(NamedTuple):
    """What a request may ask for at most."""

    body_bytes: int = 32 * 2**20
    images: int = 256  # of a batch that enters, and of one that comes out
    read_seconds: float = 30.0


def create_app(model: WatchedModel, limits: Limits | None = None, poll_seconds: float = 1.0) -> FastAPI:
    """The server as an ASGI application.

    Args:
        model: What is served.
        limits: What a request may ask for at most; `None` takes the defaults of `Limits`.
        poll_seconds: How often the folder is looked at for another version.

    Returns:
        A `FastAPI`, for uvicorn.
    """
    app = FastAPI(title="keras_provlae", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_watching)
    app.state.model, app.state.poll_seconds = model, poll_seconds
    limits = limits or Limits()
    threads = anyio.CapacityLimiter(max(2, os.cpu_count() or 2))  # TensorFlow itself uses all cores

    @app.get("/")
    async def explorer() -> Response:
        """The page of the latent explorer."""
        return Response(PAGE.read_bytes(), media_type="text/html; charset=utf-8")

    @app.get("/explorer.json")
    async def explorer_facts() -> Response:
        """What the page needs to know of the model."""
        version = model.current
        if version.metadata is None:
            raise HTTPException(404, "The latent explorer needs a model exported by keras_provlae.")
        examples = [] if version.example_images is None else version.example_images[:MAX_EXAMPLES]
        facts = {"name": model.name, "version": version.number, "metadata": version.metadata, "examples": examples}
        return _json(orjson.dumps(facts, option=orjson.OPT_SERIALIZE_NUMPY))

    @app.get(MODEL)
    @app.get(MODEL + "/versions/{number}")
    async def status(name: str, number: str | None = None) -> dict[str, Any]:
        version = _find(model, name, number, failed_too=True)
        states = [] if version is None else [_state(version.number, "AVAILABLE", "OK", "")]
        failed = sorted(model.failures.items(), reverse=True)
        failures = [_state(failure, "END", "UNKNOWN", error) for failure, error in failed]
        return {"model_version_status": [s for s in states + failures if number in (None, s["version"])]}

    @app.get(MODEL + "/metadata")
    @app.get(MODEL + "/versions/{number}/metadata")
    async def metadata(name: str, number: str | None = None) -> dict[str, Any]:
        version = _find(model, name, number)
        return {
            "model_spec": {"name": name, "signature_name": "", "version": str(version.number)},
            "metadata": {"signature_def": {"signature_def": version.signature_defs}},
        }

    @app.post(MODEL + ":predict")
    @app.post(MODEL + "/versions/{number}:predict")
    async def predict(request: Request, name: str, number: str | None = None) -> Response:
        version = _find(model, name, number)
        body = await _read_body(request, limits)
        return _json(await anyio.to_thread.run_sync(_answer, version, body, limits, limiter=threads))

    @app.exception_handler(StarletteHTTPException)
    async def refuse(request: Request, error: StarletteHTTPException) -> Response:
        return _json(orjson.dumps({"error": str(error.detail)}), error.status_code)

    return app


@contextlib.asynccontextmanager
async def _watching(app: FastAPI) -> AsyncIterator[None]:
    """Looks for other versions as long as the server runs."""

    async def watch():
        while True:
            await asyncio.sleep(app.state.poll_seconds)
            await anyio.to_thread.run_sync(app.state.model.refresh)

    task = asyncio.create_task(watch())
    yield
    task.cancel()


def _find(model, name, number, failed_too=False) -> Version | None:
    version = model.current
    if name != model.name:
        raise HTTPException(404, f"Servable not found for request: Latest({name}). Served here: {model.name}.")
    if number is None or number == str(version.number):
        return version
    if failed_too and number in map(str, model.failures):
        return None
    raise HTTPException(
        404, f"Servable not found for request: Specific({name}, {number}). Served here: version {version.number}."
    )


async def _read_body(request, limits):
    """The body, refused as soon as it is known to be too long."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "The body must not be compressed.")
    too_long = HTTPException(413, f"The body must not be longer than {limits.body_bytes} bytes.")
    if int(request.headers.get("content-length", 0)) > limits.body_bytes:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(limits.read_seconds):
            async for part in request.stream():
                body += part
                if len(body) > limits.body_bytes:
                    raise too_long
    except TimeoutError:
        raise HTTPException(408, f"The body did not arrive within {limits.read_seconds:g} seconds.") from None
    return bytes(body)


def _answer(version: Version, body: bytes, limits: Limits) -> bytes:
    """From JSON to JSON, in a thread of its own: the event loop does nothing that takes long."""
    try:
        signature_name, has_rows, values = parse_request(body)
        if signature_name not in version.signatures:
            known = ", ".join(sorted(version.signatures))
            raise BadRequestError(f"There is no signature {signature_name!r}. Known: {known}.")
        arrays = to_arrays(values, has_rows, version.specs(signature_name))
        _check_size(arrays, limits)
        return to_json(version.predict(signature_name, arrays), has_rows)
    except BadRequestError as error:
        raise HTTPException(400, str(error)) from None
    except tf.errors.InvalidArgumentError as error:
        raise HTTPException(400, _rule_in(error.message)) from None
    except tf.errors.ResourceExhaustedError:
        raise HTTPException(503, "There is not enough memory for this request.") from None


def _check_size(arrays, limits):
    """A batch, times the `n` samples or the `values` of each of its images."""
    batch = max((len(array) for name, array in arrays.items() if name != "values" and array.ndim), default=1)
    total = batch * max(int(arrays.get("n", 1)), 1) * max(np.size(arrays.get("values", 0)), 1)
    if total > limits.images:
        raise BadRequestError(f"A request may have or ask for at most {limits.images} images. Received: {total}.")


def _rule_in(message):
    """The sentence in TensorFlow's account of a failed check: `assertion failed: [rule] [value]`."""
    found = re.search(r"assertion failed: \[(.*)\]", message)
    if found is None:
        return next((line for line in message.splitlines() if "not compatible" in line), message.splitlines()[0])
    return found[1].replace("] [", " ")


def _state(number, state, code, error):
    return {"version": str(number), "state": state, "status": {"error_code": code, "error_message": error}}


def _json(content, status_code=200):
    return Response(content, status_code, media_type="application/json")
