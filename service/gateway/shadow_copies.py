"""Copies of requests for a version that never answers: asked behind the caller's answer, compared,
counted, and forgotten.

A copy takes the same way into the engine as its original, at the lowest priority and below every
lane, once that has been answered. It uses nobody's allowance, and is dropped where the engine has
other work or does not hold the version. What it says is compared and not kept.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pydantic_core
import structlog
from starlette.types import ASGIApp, Message, Scope, Send

from adapters.domain.limits import Traffic, Usage
from adapters.domain.names import VersionId
from adapters.domain.shadows import Comparisons
from adapters.errors import InvalidRequest
from service import http_errors
from service.engine.content_free_logs import outline
from service.engine.quarantine import Flight
from service.gateway.admit import load_of
from service.gateway.answer_text import texts_of
from service.gateway.body_allowlist import CHAT, COMPLETIONS, Endpoint
from service.gateway.cost import cost_of
from service.gateway.request_body import replay
from service.gateway.response import counted
from service.reconcile.route_table import Share, Target
from service.runtime import Runtime

MAX_BYTES = 256 * 1024
"""Of an answer that is compared; a longer one is not."""
COPY_SECONDS = 120.0
_COMPARED = (CHAT, COMPLETIONS)
"""Endpoints whose answers hold texts that can be compared."""
_OK = 200

log = structlog.get_logger("wardrobe.gateway")


class Tap:
    """A `send` that remembers the bytes of one answer, up to a bound."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._parts: list[bytes] = []
        self._size = 0

    async def send(self, message: Message) -> None:
        """An ASGI `send`."""
        body = message.get("body", b"")
        if body and self._size <= MAX_BYTES:
            self._size += len(body)
            self._parts.append(body)
        await self._send(message)

    @property
    def content(self) -> bytes | None:
        """The answer's body; None where it was too long."""
        return b"".join(self._parts) if self._size <= MAX_BYTES else None


@dataclass(frozen=True, kw_only=True)
class Original:
    """A request that was answered, and by what."""

    scope: Scope
    """As the engine saw it."""
    body: dict[str, Any]
    content: bytes
    seconds: float


def shadow_of(
    runtime: Runtime, target: Target, endpoint: Endpoint, request_id: str
) -> Share | None:
    """The shadow that gets a copy of this request; each is drawn by itself."""
    shadow = target.shadow
    if shadow is None or endpoint not in _COMPARED:
        return None
    return shadow if runtime.table.draws(shadow, request_id) else None


def copy(app: ASGIApp, runtime: Runtime, share: Share, original: Original | None) -> None:
    """Starts a copy, or counts it as dropped; never waits."""
    version = share.target.version
    if original is None or version is None or not runtime.copies.has_room:
        _note(runtime, share, Comparisons(dropped=1))
        return
    held = _hold(runtime, version.id, original.body)
    if held is None:
        _note(runtime, share, Comparisons(dropped=1))
        return

    async def work() -> None:
        with held:
            _note(runtime, share, await _compared(app, runtime, share, original))

    runtime.copies.start(work())


def _hold(runtime: Runtime, version: VersionId, body: dict[str, Any]) -> ExitStack | None:
    """A place in the engine and the version's lease; None where one is not free: no copy is worth
    that somebody waits, or a load.
    """
    load = load_of(cost_of(body, longest=runtime.abilities.context))
    with ExitStack() as held:
        if (turn := runtime.turns.take_spare(load)) is None:
            return None
        held.enter_context(turn)
        if (lease := runtime.leases.take(version)) is None:
            return None
        held.enter_context(lease)
        return held.pop_all()


def _note(runtime: Runtime, share: Share, found: Comparisons) -> None:
    runtime.swap.trials.compare(share, found)
    target = share.target
    outcome = next(
        name for name in ("dropped", "errors", "agreed", "copies") if getattr(found, name)
    )
    labels = (str(target.unit), target.alias, target.model)
    runtime.metrics.shadow_copies.labels(*labels, _OUTCOMES[outcome]).inc()


_OUTCOMES = {"dropped": "dropped", "errors": "failed", "agreed": "agreed", "copies": "differed"}


async def _compared(
    app: ASGIApp, runtime: Runtime, share: Share, original: Original
) -> Comparisons:
    began = time.perf_counter()
    body = pydantic_core.to_json(_body(runtime, share, original.body))
    flight = _flight(runtime, body)
    if flight is None:
        return Comparisons(dropped=1)
    status, content, used = 0, b"", Usage()
    try:
        async with asyncio.timeout(COPY_SECONDS):
            status, content, used = await _ask(app, original.scope, body)
    except Exception as error:  # the edge of a background task; its words may quote the request
        log.warning("shadow_copy_failed", version=share.target.model, error=outline(error))
    finally:
        flight.end(answered=status == _OK)
    if status != _OK:
        return Comparisons(errors=1)
    target = share.target
    runtime.swap.usage.note((str(target.unit), target.alias, target.model, Traffic.SHADOW), used)
    said, stable = texts_of(content), texts_of(original.content)
    return Comparisons(
        copies=1,
        agreed=int(said == stable),
        characters=sum(map(len, said)),
        stable_characters=sum(map(len, stable)),
        seconds=time.perf_counter() - began,
        stable_seconds=original.seconds,
    )


def _flight(runtime: Runtime, body: bytes) -> Flight | None:
    """A copy that kills the engine must be known for it, or callers would be suspected instead.
    One that is suspected already is not worth a turn.
    """
    try:
        flight = runtime.quarantine.begin(body)
    except InvalidRequest:
        return None
    if flight.suspected:
        flight.end(answered=False)
        return None
    return flight


def _body(runtime: Runtime, share: Share, body: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in body.items() if name != "stream_options"}
    target = share.target
    changed = {**kept, "model": target.model, "cache_salt": target.salt, "stream": False}
    if runtime.engine.limits.get("scheduling") == "priority":
        changed["priority"] = Traffic.SHADOW.priority
    return changed


async def _ask(app: ASGIApp, scope: Scope, content: bytes) -> tuple[int, bytes, Usage]:
    """The engine's status and answer, and what it counted."""
    status, parts = 0, []

    async def take(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        parts.append(message.get("body", b""))

    inner = _scope(scope, content)
    await app(inner, replay(content, _never_gone, lambda: None), take)
    return status, b"".join(parts), counted(inner["state"]) or Usage()


def _scope(scope: Scope, content: bytes) -> Scope:
    """The original's, with an id and a state of its own."""
    changed = {
        b"content-length": str(len(content)).encode(),
        b"x-request-id": http_errors.new_request_id().encode(),
    }
    headers = [(name, changed.get(name, value)) for name, value in scope["headers"]]
    return {**scope, "headers": headers, "state": {}}


async def _never_gone() -> Message:
    """Nobody waits for a copy, so nobody goes away; vLLM listens for that beside its answer."""
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets")
