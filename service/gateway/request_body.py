"""Reads request bodies, bounds them, and hands a new one over in the place of what was sent."""

from __future__ import annotations

from collections.abc import Callable

import pydantic_core
from starlette.types import Message, Receive, Scope

from adapters.errors import InvalidRequest, TooLarge


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first of its name; ASGI's names are in lower case."""
    return next((value for key, value in scope["headers"] if key == name), None)


def _check_length(scope: Scope, limit: int) -> None:
    """Refuses a body by what it claims to be, before a byte of it is read."""
    claimed = header(scope, b"content-length")
    if claimed is not None and (not claimed.isdigit() or len(claimed) > 15 or int(claimed) > limit):
        raise TooLarge(f"the body may have at most {limit} bytes")


def bounded(receive: Receive, scope: Scope, limit: int) -> Receive:
    """`receive` that raises TooLarge when more than `limit` bytes come, whatever was claimed."""
    _check_length(scope, limit)
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise TooLarge(f"the body may have at most {limit} bytes")
        return message

    return counted


async def read_json(scope: Scope, receive: Receive, limit: int) -> object:
    """The whole body, at most `limit` bytes of it. Raises TooLarge, InvalidRequest."""
    within = bounded(receive, scope, limit)
    chunks: list[bytes] = []
    more = True
    while more:
        message = await within()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("the client went away before the body was complete")
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    try:
        return pydantic_core.from_json(b"".join(chunks), allow_inf_nan=False)
    except ValueError:
        raise InvalidRequest("the body is not valid JSON") from None


def replay(content: bytes, receive: Receive, gone: Callable[[], None]) -> Receive:
    """Hands over the new body once, then the real messages; calls `gone` at a disconnect."""
    pending = True

    async def replayed() -> Message:
        nonlocal pending
        if pending:
            pending = False
            return {"type": "http.request", "body": content, "more_body": False}
        message = await receive()
        if message["type"] == "http.disconnect":
            gone()
        return message

    return replayed
