"""Reads request bodies, bounds them, and hands a new one over in the place of what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pydantic_core
from starlette.types import Message, Receive, Scope

from adapters.errors import InvalidRequest, TooLarge
from service.open_bodies import OpenBodies


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first of its name; ASGI's names are in lower case."""
    for key, value in scope["headers"]:  # a generator would take twice as long
        if key == name:
            found: bytes = value
            return found
    return None


def _check_length(scope: Scope, limit: int) -> None:
    """Refuses a body by what it claims to be, before a byte of it is read."""
    claimed = header(scope, b"content-length")
    if claimed is not None and (not claimed.isdigit() or len(claimed) > 15 or int(claimed) > limit):
        raise TooLarge(f"the body may have at most {limit} bytes")


def bounded(
    receive: Receive, scope: Scope, limit: int, *, bodies: OpenBodies | None = None
) -> Receive:
    """`receive` that raises TooLarge when more than `limit` bytes come, whatever was claimed, and
    InvalidRequest when they have not come in the time that `bodies` have. Behind the body it waits
    as it did.
    """
    _check_length(scope, limit)
    seen, whole = 0, False
    deadline = 0.0 if bodies is None else asyncio.get_running_loop().time() + bodies.seconds

    async def counted() -> Message:
        nonlocal seen, whole
        if bodies is None or whole:
            message = await receive()
        else:
            try:
                with bodies.deadlines.until(deadline):
                    message = await receive()
            except TimeoutError:
                raise InvalidRequest(
                    f"the body did not come within {bodies.seconds:.0f} s", code="body_timeout"
                ) from None
        seen += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if seen > limit:
            raise TooLarge(f"the body may have at most {limit} bytes")
        return message

    return counted


async def read_json(
    scope: Scope, receive: Receive, limit: int, *, bodies: OpenBodies, owner: str
) -> object:
    """The whole body, at most `limit` bytes of it. Raises TooLarge, InvalidRequest, and RateLimited
    where the owner has too many that are not whole: most are with their first message.
    """
    within = bounded(receive, scope, limit, bodies=bodies)
    body, more = _part(await within())
    if more:
        with bodies.place(owner):
            chunks = [body]
            while more:
                body, more = _part(await within())
                chunks.append(body)
            body = b"".join(chunks)
    try:
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        raise InvalidRequest("the body is not valid JSON") from None


def _part(message: Message) -> tuple[bytes, bool]:
    if message["type"] == "http.disconnect":
        raise InvalidRequest("the client went away before the body was complete")
    return message.get("body", b""), message.get("more_body", False)


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
