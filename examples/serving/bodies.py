"""Reads request bodies, plain or gzipped, within the limits of the server."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect


@contextlib.asynccontextmanager
async def read_body(request: Request) -> AsyncIterator[bytes]:
    """Reads the body and counts its bytes in `held_bytes` until the context ends.

    Args:
        request: A request whose `app.state` has `limits` and `held_bytes`.

    Raises:
        HTTPException: If the body is too long (at the first excess byte), too slow, cut off or not plain or gzip.
    """
    encoding = request.headers.get("content-encoding", "").lower()
    if encoding not in ("", "identity", "gzip"):
        raise _closing(415, f"The body must be plain or gzip. Received: {encoding[:100]}.")
    unzip = zlib.decompressobj(wbits=31) if encoding == "gzip" else None  # 31: gzip header
    state, body = request.app.state, bytearray()
    try:
        try:
            async with asyncio.timeout(state.limits.read_seconds):
                await _read(request, body, unzip)
        except TimeoutError:
            raise _closing(408, f"The body did not arrive within {state.limits.read_seconds:g} seconds.") from None
        except ClientDisconnect:
            raise _closing(400, "The body ended too early.") from None
        except zlib.error as error:
            raise _closing(400, f"The body must be valid gzip, as its header says: {error}.") from None
        yield bytes(body)
    finally:
        state.held_bytes -= len(body)


async def _read(request, body, unzip):
    state = request.app.state
    too_long = f"The body must not be longer than {state.limits.body_bytes} bytes."
    if int(request.headers.get("content-length", 0)) > state.limits.body_bytes:
        raise _closing(413, too_long)
    async for part in request.stream():
        # a small body may unpack to a huge one: unpack one byte more than the limit at most
        content = part if unzip is None else unzip.decompress(part, state.limits.body_bytes + 1 - len(body))
        body += content
        state.held_bytes += len(content)
        if len(body) > state.limits.body_bytes:
            raise _closing(413, too_long)
        if state.held_bytes > state.limits.all_bodies_bytes:
            raise _closing(503, "Too many long requests at once. Try again later.")
        if unzip is not None and unzip.unused_data:
            raise zlib.error("something follows its end")
    if unzip is not None and not unzip.eof:
        raise zlib.error("it is cut off")


def _closing(status_code, detail):
    """Returns an error that closes the connection, so the rest of the body is not read."""
    return HTTPException(status_code, detail, {"Connection": "close"})
