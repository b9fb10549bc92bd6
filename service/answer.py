"""One inference answer on its way out: named, translated where it is an error, and counted."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from adapters.versions import Version
from service import wire
from service.metrics import Metrics
from service.routing import Target

Message = MutableMapping[str, Any]


class Answer:
    """Wraps `send` for one request. Bodies of successful answers pass through untouched."""

    def __init__(
        self, send: Callable[[Message], Awaitable[None]], target: Target, started: float
    ) -> None:
        self._send = send
        self._target = target
        self._started = started
        self._status = 0
        self._first_byte: float | None = None
        self._error_body: list[bytes] = []
        self._complete = False

    async def send(self, message: Message) -> None:
        """An ASGI `send`."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if self._status < 400:
                headers = [*message.get("headers", ()), *self._headers()]
                await self._send({**message, "headers": headers})
            return
        if self._status >= 400:
            await self._collect(message)
            return
        if self._first_byte is None and message.get("body"):
            self._first_byte = time.perf_counter()
        if not message.get("more_body", False):
            self._complete = True
        await self._send(message)

    async def _collect(self, message: Message) -> None:
        """An engine's error is short: kept back until whole, then said in our envelope."""
        self._error_body.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        self._complete = True
        self._status, body, headers = wire.translate(self._status, b"".join(self._error_body))
        headers += [(b"content-length", str(len(body)).encode()), *self._headers()]
        await self._send(
            {"type": "http.response.start", "status": self._status, "headers": headers}
        )
        await self._send({"type": "http.response.body", "body": body})

    def _headers(self) -> wire.Headers:
        elapsed = int((time.perf_counter() - self._started) * 1000)
        headers = [
            (b"openai-processing-ms", str(elapsed).encode()),
            (b"cache-control", b"no-cache"),
        ]
        version: Version | None = self._target.version
        if version is not None:
            headers.append((b"x-adapter-version", version.name.encode()))
            headers.append((b"x-adapter-digest", version.digest.encode()))
        return headers

    def count(self, metrics: Metrics, unit: str, state: Mapping[str, Any]) -> None:
        """Records the request, once, however it ended."""
        version = self._target.version
        labels = (unit, self._target.alias, version.name if version else "base")
        metrics.requests.labels(*labels, self._outcome()).inc()
        metrics.latency.labels(*labels).observe(time.perf_counter() - self._started)
        if self._first_byte is not None:
            metrics.first_token.labels(*labels).observe(self._first_byte - self._started)
        usage = getattr(state.get("request_metadata"), "final_usage_info", None)
        if usage is not None:
            metrics.tokens.labels(*labels, "prompt").inc(usage.prompt_tokens or 0)
            metrics.tokens.labels(*labels, "completion").inc(usage.completion_tokens or 0)

    def _outcome(self) -> str:
        if not self._complete:
            return "disconnected"
        if self._status < 400:
            return "ok"
        return "client_error" if self._status < 500 else "engine_error"
