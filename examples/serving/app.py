"""The HTTP interface: TensorFlow Serving's REST paths, and the latent explorer."""

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
MAX_ERROR = 1000  # characters: an error that quotes the request is not as long as the request
LOG = logging.getLogger("uvicorn.error")


class Limits(NamedTuple):
    """What a request may ask for at most."""

    body_bytes: int = 32 * 2**20
    all_bodies_bytes: int = 512 * 2**20  # of the requests that are being read or wait for their turn
    images: int = 256  # of a batch that enters, and of one that comes out
    pixels: int = 2**25  # of the PNG and JPEG files of a request together, as these declare
    read_seconds: float = 30.0


async def _check_host(request: Request) -> None:
    """Refuses pages of others that point a name of theirs to this machine."""
    allowed, host = request.app.state.allowed_hosts, request.url.hostname
    if "*" not in allowed and host not in allowed:
        raise HTTPException(400, f"This server does not answer as {host!r}: see its flag --allowed_hosts.")


router = APIRouter(dependencies=[Depends(_check_host)])
GET = ["GET", "HEAD"]


@router.api_route("/", methods=GET)
async def explorer() -> Response:
    """The page of the latent explorer."""
    return Response(PAGE.read_bytes(), media_type="text/html; charset=utf-8")


@router.api_route("/explorer.json", methods=GET)
async def explorer_facts(request: Request) -> Response:
    """What the page needs to know of the model."""
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
    """Which version is served, and which could not be loaded."""
    model = request.app.state.model
    failures = sorted(model.failures.items(), reverse=True)
    states = [_state(failure, "END", "UNKNOWN", error) for failure, error in failures]
    states.insert(0, _state(model.current.number, "AVAILABLE", "OK", ""))
    if number in {state["version"] for state in states}:
        _check_name(model, name)
    else:
        _find(model, name, number)  # raises the error unless it is `None`
    return {"model_version_status": [state for state in states if number in (None, state["version"])]}


@router.api_route(MODEL + "/metadata", methods=GET)
@router.api_route(MODEL + "/versions/{number}/metadata", methods=GET)
async def metadata(request: Request, name: str, number: str | None = None) -> dict[str, Any]:
    """The signatures of the served version."""
    version = _find(request.app.state.model, name, number)
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version.number)},
        "metadata": {"signature_def": {"signature_def": version.signature_defs}},
    }


@router.post(MODEL + ":predict")
@router.post(MODEL + "/versions/{number}:predict")
async def predict(request: Request, name: str, number: str | None = None) -> Response:
    """The outputs of a signature."""
    state = request.app.state
    version = _find(state.model, name, number)
    async with read_body(request) as body:
        return _json(await anyio.to_thread.run_sync(_answer, version, body, state.limits, limiter=state.threads))


@router.post(MODEL + ":{method}")
@router.post(MODEL + "/versions/{number}:{method}")
async def other_methods(name: str, method: str, number: str | None = None) -> None:
    """What TensorFlow Serving has beside `:predict`, for models of another kind."""
    raise HTTPException(400, f"The signatures of a model are called with :predict alone. Received: :{method[:100]}.")


def create_app(
    model: WatchedModel, limits: Limits | None = None, poll_seconds: float = 1.0, allowed_hosts: tuple = ("*",)
) -> FastAPI:
    """The server as an ASGI application.

    Args:
        model: What is served.
        limits: What a request may ask for at most; `None` takes the defaults of `Limits`.
        poll_seconds: How often the folder is looked at for another version.
        allowed_hosts: Names by which it may be called, in lower case; `"*"` is any.

    Returns:
        A `FastAPI`, for uvicorn.
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
    """Looks for other versions as long as the server runs."""

    async def watch():
        while True:
            await asyncio.sleep(app.state.poll_seconds)
            try:
                await anyio.to_thread.run_sync(app.state.model.refresh)
            except Exception:  # such as a file system that is away for a moment
                LOG.exception("Cannot look for versions in %s", app.state.model.base_path)

    task = asyncio.create_task(watch())
    yield
    task.cancel()


async def _refuse(request: Request, error: StarletteHTTPException) -> Response:
    """Every error is JSON with one entry, `error`."""
    return _json(orjson.dumps({"error": str(error.detail)[:MAX_ERROR]}), error.status_code, error.headers)


async def _fail(request: Request, error: Exception) -> Response:
    """What nobody foresaw; the log has the traceback."""
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
    """From JSON to JSON, in a thread: the event loop goes on, though Python's lock slows it while JSON is read."""
    try:
        signature_name, has_rows, values = parse_request(body)
        if signature_name not in version.signatures:
            known = ", ".join(sorted(version.signatures))
            hint = (
                " Older exports have no signatures for encoded images, nor have models of other than 1 or 3 channels."
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
        raise HTTPException(503, "There is not enough memory for this request.") from None


def _check_size(arrays, limits):
    """A batch, times the `n` samples or the `values` of each of its images."""
    batch = max((len(array) for name, array in arrays.items() if name != "values" and array.ndim), default=1)
    total = batch * max(int(np.max(arrays.get("n", 1), initial=1)), np.size(arrays.get("values", 0)))
    if total > limits.images:
        raise BadRequestError(f"A request may have or ask for at most {limits.images} images. Received: {total}.")
    check_pixels(arrays, limits.pixels)


def _rule_in(message):
    """The sentence in TensorFlow's account of a failed check: `assertion failed: [rule] [value]`."""
    found = re.search(r"assertion failed: \[(.*)\]", message)
    if found is None:
        return next((line for line in message.splitlines() if "not compatible" in line), message.splitlines()[0])
    return found[1].replace("] [", " ")


def _state(number, state, code, error):
    return {"version": str(number), "state": state, "status": {"error_code": code, "error_message": error}}


def _json(content, status_code=200, headers=None):
    return Response(content, status_code, headers, media_type="application/json")
