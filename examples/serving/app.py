"""HTTP API of the server: TensorFlow Serving's REST paths and the latent explorer."""

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import numpy as np
import orjson
import tensorflow as tf
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from .bodies import read_body
from .image_files import check_pixels
from .tensors import BadRequestError, parse_request, to_arrays, to_json
from .versions import Version, WatchedModel

PAGE = Path(__file__).with_name("explorer.html")
MODEL = "/v1/models/{name}"
MAX_EXAMPLES = 24
MAX_ERROR = 1000  # characters: an error may quote a long request
LOG = logging.getLogger("uvicorn.error")


class Limits(NamedTuple):
    """Limits of a request."""

    body_bytes: int = 32 * 2**20
    all_bodies_bytes: int = 512 * 2**20  # of all requests being read or waiting
    images: int = 256  # per batch, of the inputs and of the outputs
    pixels: int = 2**25  # declared by all PNG and JPEG files of a request
    read_seconds: float = 30.0


async def _check_host(request: Request) -> None:
    """Rejects other Host headers, so that foreign pages cannot reach the server by DNS rebinding."""
    allowed, host = request.app.state.allowed_hosts, request.url.hostname
    if "*" not in allowed and host not in allowed:
        raise HTTPException(400, f"This server does not answer to the host {host!r}. See its flag --allowed_hosts.")


router = APIRouter(dependencies=[Depends(_check_host)])
GET = ["GET", "HEAD"]


@router.api_route("/", methods=GET)
async def explorer() -> Response:
    """Returns the page of the latent explorer."""
    return Response(PAGE.read_bytes(), media_type="text/html; charset=utf-8")


@router.api_route("/explorer.json", methods=GET)
async def explorer_facts(request: Request) -> Response:
    """Returns what the page needs to know about the model."""
    version = request.app.state.model.current
    if version.metadata is None:
        raise HTTPException(404, "The latent explorer needs a model exported by keras_provlae.")
    examples = [] if version.example_images is None else np.ascontiguousarray(version.example_images[:MAX_EXAMPLES])
    name, limit = request.app.state.model.name, request.app.state.limits.images
    facts = {"name": name, "version": version.number, "max_images": limit, "metadata": version.metadata}
    return _json(orjson.dumps({**facts, "examples": examples}, option=orjson.OPT_SERIALIZE_NUMPY))


@router.api_route(MODEL, methods=GET)
@router.api_route(MODEL + "/versions/{number}", methods=GET)
async def status(request: Request, name: str, number: str | None = None) -> dict[str, Any]:
    """Returns the served version and those that could not be loaded."""
    model = request.app.state.model
    failures = sorted(model.failures.items(), reverse=True)
    states = [_state(failure, "END", "UNKNOWN", error) for failure, error in failures]
    states.insert(0, _state(model.current.number, "AVAILABLE", "OK", ""))
    if number in {state["version"] for state in states}:
        _check_name(model, name)
    else:
        _find(model, name, number)  # raises a 404 for an unknown name or version
    return {"model_version_status": [state for state in states if number in (None, state["version"])]}


@router.api_route(MODEL + "/metadata", methods=GET)
@router.api_route(MODEL + "/versions/{number}/metadata", methods=GET)
async def metadata(request: Request, name: str, number: str | None = None) -> dict[str, Any]:
    """Returns the signatures of the served version."""
    version = _find(request.app.state.model, name, number)
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version.number)},
        "metadata": {"signature_def": {"signature_def": version.signature_defs}},
    }


@router.post(MODEL + ":predict")
@router.post(MODEL + "/versions/{number}:predict")
async def predict(request: Request, name: str, number: str | None = None) -> Response:
    """Returns the outputs of a signature."""
    state = request.app.state
    version = _find(state.model, name, number)
    async with read_body(request) as body:
        return _json(await anyio.to_thread.run_sync(_answer, version, body, state.limits, limiter=state.threads))


@router.post(MODEL + ":{method}")
@router.post(MODEL + "/versions/{number}:{method}")
async def other_methods(name: str, method: str, number: str | None = None) -> None:
    """Rejects TensorFlow Serving's other methods, such as `:classify`."""
    raise HTTPException(400, f"Signatures are called with :predict only. Received: :{method[:100]}.")


def create_app(
    model: WatchedModel, limits: Limits | None = None, poll_seconds: float = 1.0, allowed_hosts: tuple = ("*",)
) -> FastAPI:
    """Builds the server as an ASGI application for uvicorn.

    Args:
        model: The model to serve.
        limits: Limits of a request; `None` for the defaults of `Limits`.
        poll_seconds: Seconds between checks for a new version.
        allowed_hosts: Host names to answer to, in lower case; `"*"` allows any.
    """
    app = FastAPI(
        title="keras_provlae",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_watching,
    )
    app.state.model, app.state.limits, app.state.poll_seconds = model, limits or Limits(), poll_seconds
    app.state.threads = anyio.CapacityLimiter(max(2, os.cpu_count() or 2))  # TensorFlow itself uses all cores
    app.state.held_bytes = 0
    app.state.allowed_hosts = frozenset(allowed_hosts)
    app.add_exception_handler(StarletteHTTPException, _refuse)
    app.add_exception_handler(Exception, _fail)
    app.include_router(router)
    return app


@contextlib.asynccontextmanager
async def _watching(app: FastAPI) -> AsyncIterator[None]:
    """Checks for new versions while the server runs."""

    async def watch():
        while True:
            await asyncio.sleep(app.state.poll_seconds)
            try:
                await anyio.to_thread.run_sync(app.state.model.refresh)
            except Exception:  # such as a file system that is briefly unavailable
                LOG.exception("Cannot look for versions in %s", app.state.model.base_path)

    task = asyncio.create_task(watch())
    yield
    task.cancel()


async def _refuse(request: Request, error: StarletteHTTPException) -> Response:
    """Returns an error as JSON with the single entry `error`."""
    return _json(orjson.dumps({"error": str(error.detail)[:MAX_ERROR]}), error.status_code, error.headers)


async def _fail(request: Request, error: Exception) -> Response:
    """Returns a 500 for an unexpected error; the log has the traceback."""
    return _json(orjson.dumps({"error": f"The server failed: {type(error).__name__}."}), 500)


def _check_name(model, name):
    if name != model.name:
        raise HTTPException(404, f"Servable not found for request: Latest({name}). Served here: {model.name}.")


def _find(model, name, number) -> Version:
    if (number or name).endswith(":predict"):
        raise HTTPException(405, "Send predict requests with POST.", {"Allow": "POST"})
    _check_name(model, name)
    version = model.current
    if number not in (None, str(version.number)):
        raise HTTPException(
            404, f"Servable not found for request: Specific({name}, {number}). Served here: version {version.number}."
        )
    return version


def _answer(version: Version, body: bytes, limits: Limits) -> bytes:
    """Turns request JSON into answer JSON; runs in a thread so that the event loop is not blocked."""
    try:
        signature_name, has_rows, values = parse_request(body)
        if signature_name not in version.signatures:
            known = ", ".join(sorted(version.signatures))
            hint = (
                " Older exports and models without 1 or 3 channels have no signatures for encoded images."
                if signature_name.endswith("_image_bytes")
                else ""
            )
            raise BadRequestError(f"There is no signature {signature_name[:100]!r}. Known: {known}.{hint}")
        arrays = to_arrays(values, has_rows, version.specs(signature_name))
        _check_size(arrays, limits)
        return to_json(version.predict(signature_name, arrays), has_rows)
    except BadRequestError as error:
        raise HTTPException(400, str(error)) from None
    except tf.errors.InvalidArgumentError as error:
        raise HTTPException(400, _rule_in(error.message)) from None
    except (tf.errors.ResourceExhaustedError, MemoryError):
        raise HTTPException(503, "Not enough memory for this request.") from None


def _check_size(arrays, limits):
    """Checks the number of images: the batch, times `n` samples or `values` per image."""
    batch = max((len(array) for name, array in arrays.items() if name != "values" and array.ndim), default=1)
    total = batch * max(int(np.max(arrays.get("n", 1), initial=1)), np.size(arrays.get("values", 0)))
    if total > limits.images:
        raise BadRequestError(f"A request may send or ask for at most {limits.images} images. Received: {total}.")
    check_pixels(arrays, limits.pixels)


def _rule_in(message):
    """Extracts the rule from TensorFlow's message, `assertion failed: [rule] [value]`."""
    found = re.search(r"assertion failed: \[(.*)\]", message)
    if found is None:
        return next((line for line in message.splitlines() if "not compatible" in line), message.splitlines()[0])
    return found[1].replace("] [", " ")


def _state(number, state, code, error):
    return {"version": str(number), "state": state, "status": {"error_code": code, "error_message": error}}


def _json(content, status_code=200, headers=None):
    return Response(content, status_code, headers, media_type="application/json")
