"""Sends an answer: names its version, puts errors into our envelope, and counts it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from starlette.types import Message, Send

from adapters.domain.limits import Usage
from adapters.errors import Draining, EngineUnavailable
from service import http_errors
from service.gateway import engine_errors
from service.gateway.body_allowlist import RESPONSES, Endpoint
from service.gateway.stream_comments import SILENCE_SECONDS, StreamComments
from service.gateway.token_gaps import TokenGaps
from service.metrics import Metrics
from service.observe.request_record import RequestRecord
from service.reconcile.route_table import Target

ABORTED = b'"finish_reason":"abort"'
"""vLLM's word for an answer it cut off; within a text its quotes would be escaped."""
IN_BAND_ERROR = b'data: {"error"'
EVENTS = b"text/event-stream"
UNBUFFERED = (b"x-accel-buffering", b"no")
"""nginx, and ingresses made of it, keep a stream back otherwise."""


class Drain(Protocol):
    """How far the drain of this process is."""

    draining: bool
    drained: bool
    """Nobody waits for answers any more: what ends now is cut off."""


class Answer:
    """Wraps `send` for one inference request. Successful bodies pass through unread, but for the
    first bytes of each, where a stream's error would stand.

    The status waits for the first of them: vLLM says 200 before it has asked its engine, and a
    stream that begins with an error is an error that clients repeat by themselves. A stream that is
    long in coming begins with comments instead.

    Only while the replica drains is each body looked at: what the engine cuts off then would end
    like a whole answer.
    """

    def __init__(
        self,
        send: Send,
        target: Target,
        started: float,
        *,
        endpoint: Endpoint,
        drain: Drain,
        bodies: Send | None = None,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        """`bodies` is the way of a good answer's bodies, where it is shorter than `send`, and
        `silence` the most seconds in which nothing of a stream is sent before it begins.
        """
        self._send = send
        self._bodies = bodies or send
        self._target = target
        self._started = started
        self._endpoint = endpoint
        self._drain = drain
        self._status = 0
        self._streams = False
        self._counted: Usage | None = None
        """Tokens of the prompt and of the answer, once counted."""
        self._first_byte: float | None = None
        self._gaps = TokenGaps()
        self._held: Message | None = None
        self._silence = silence
        self._comments: StreamComments | None = None
        self._error_body: list[bytes] = []
        self._error_event: bytes | None = None
        """Within a stream that had begun."""
        self._last = b""
        """Of the bodies that were not empty."""
        self._passes = False
        """Whether a good answer is under way: its next body needs no more than a glance."""
        self._complete = False
        self._client_gone = False
        self._spent: Usage | None = None
        self._failed = False
        self._outcome: str | None = None

    def send(self, message: Message) -> Awaitable[None]:
        """An ASGI `send`. Nearly every call is for one of a stream's chunks, so that is first, and
        no coroutine of ours is made for it.
        """
        if self._passes and not self._drain.draining:
            body = message.get("body")
            if body and message.get("more_body") and not body.startswith(IN_BAND_ERROR):
                self._last = body
                self._gaps.note()
                return self._bodies(message)
        return self._send_examined(message)

    async def _send_examined(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        elif self._complete:  # the rest of what an error has replaced
            return
        elif self._status >= 400:
            await self._collect(message)
        else:
            await self._pass_examined(message)

    def _begin(self, message: Message) -> None:
        self._status = message["status"]
        if self._status >= 400:
            return
        headers = [*message.get("headers", ()), *self._headers()]
        for _, value in headers:  # a generator would take twice as long
            if value.startswith(EVENTS):
                self._streams = True
        if self._streams:
            headers.append(UNBUFFERED)
            self._comments = StreamComments(self._comment, every=self._silence)
        self._held = {**message, "headers": headers}

    async def _comment(self, comment: bytes) -> None:
        await self._begin_body()
        await self._send({"type": "http.response.body", "body": comment, "more_body": True})

    async def _begin_body(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            await self._send(held)

    async def _stop_comments(self) -> None:
        if self._comments is not None:
            comments, self._comments = self._comments, None
            await comments.stop()

    def _note(self, message: Message) -> None:
        body = message.get("body", b"")
        if body:
            self._last = body
            if body.startswith(IN_BAND_ERROR):
                self._error_event = body
            if self._first_byte is None:
                self._first_byte = time.perf_counter()
                self._gaps.begin()
            else:
                self._gaps.note()
        self._complete = not message.get("more_body", False)
        self._passes = not self._complete

    async def _pass_examined(self, message: Message) -> None:
        await self._stop_comments()
        body = message.get("body", b"")
        if body.startswith(IN_BAND_ERROR):
            if self._held is not None:
                await self._refuse(engine_errors.of_event(body, question=self._endpoint.question))
                return
            body = engine_errors.translate_event(body, question=self._endpoint.question)
            message = {**message, "body": body}
        if self._drain.draining and self._is_cut_off(body):
            message = await self._cut_off(message)
            if self._complete:
                return
        await self._begin_body()
        self._note(message)
        await self._bodies(message)

    def _is_cut_off(self, body: bytes) -> bool:
        """What a response ends with never says so: there, the end of the drain does."""
        return ABORTED in body or (self._endpoint is RESPONSES and self._drain.drained)

    async def _cut_off(self, message: Message) -> Message:
        """Says so: as the whole answer where none has begun, else as an event of the stream."""
        error = Draining("the answer was cut off: this replica is shutting down")
        if self._held is None:
            more = message.get("more_body", False) and self._endpoint is not RESPONSES
            return {**message, "body": http_errors.event(error), "more_body": more}
        await self._refuse(http_errors.render(error))
        return message

    async def _collect(self, message: Message) -> None:
        """An engine's error is short: kept back until whole, then said in our envelope."""
        self._error_body.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        await self._refuse(
            engine_errors.translate(
                self._status, b"".join(self._error_body), question=self._endpoint.question
            )
        )

    async def _refuse(self, error: tuple[int, bytes, http_errors.Headers]) -> None:
        """The whole answer is an error."""
        self._status, body, headers = error
        self._complete = True
        headers += [(b"content-length", str(len(body)).encode()), *self._headers()]
        await self._send(
            {"type": "http.response.start", "status": self._status, "headers": headers}
        )
        await self._send({"type": "http.response.body", "body": body})

    def _headers(self) -> http_errors.Headers:
        elapsed = int((time.perf_counter() - self._started) * 1000)
        return [
            (b"openai-processing-ms", b"%d" % elapsed),
            (b"cache-control", b"no-cache"),
            *self._target.headers,
        ]

    def client_gone(self, spent: Usage | None = None) -> None:
        """The client went away; behind the last byte that is no news. `spent` is what the engine
        has done for it.
        """
        if not self._client_gone:
            self._client_gone, self._spent = not self._complete, spent

    async def fail(self) -> None:
        """An exception ended the request. A stream that had begun ends with an event that says so:
        for most of its endings vLLM makes one, for those of responses none.
        """
        self._failed, self._passes = not self._complete, False
        await self._stop_comments()
        if self._streams and self._held is None and not self._complete:
            self._complete = True
            error = EngineUnavailable("the engine could not finish this answer")
            with suppress(OSError):  # whoever asked may be gone
                await self._bodies({"type": "http.response.body", "body": http_errors.event(error)})

    def close(self) -> None:
        """Nothing more is sent."""
        if self._comments is not None:
            self._comments.abandon()

    @property
    def whole(self) -> bool:
        """Whether the engine has answered to the end, be it that the request is wrong."""
        return self.outcome in ("ok", "client_error")

    @property
    def target(self) -> Target:
        """What answers."""
        return self._target

    @property
    def seconds(self) -> float:
        """Since the request came in."""
        return time.perf_counter() - self._started

    def used(self, state: Mapping[str, Any], *, reserved: Usage) -> Usage:
        """What the request has used: by the engine's own count where there is one.

        vLLM leaves none for an answer that was cut off, but knew of it when the client went away.
        An answer that has begun and that nobody has counted costs what was reserved.
        """
        usage = self._tokens(state)
        if usage.prompt or usage.completion:
            return usage
        if self._spent is not None:
            return self._spent
        return reserved if self._first_byte is not None else Usage()

    def count(self, metrics: Metrics, unit: str, state: Mapping[str, Any]) -> None:
        """Records the request, once, however it ended."""
        series = metrics.answers(unit, self._target.alias, self._target.version_name)
        now = time.perf_counter()
        series.ended(self.outcome, seconds=now - self._started, first_byte=self._waited())
        prompt, completion = self._tokens(state)
        if prompt or completion:
            series.used(prompt=prompt, completion=completion)
        if self._streams and self._first_byte is not None:
            series.streamed(self._gaps.counts, seconds=self._gaps.seconds)

    def tell(self, record: RequestRecord, unit: str) -> None:
        """What is known of the request once it has been counted."""
        target = self._target
        record.unit, record.alias, record.version = unit, target.alias, target.version_name
        record.outcome, record.first_byte = self.outcome, self._waited()
        record.prompt_tokens, record.completion_tokens = self._counted or (0, 0)
        if self._error_event is not None:
            record.code = http_errors.code_of(self._error_event.removeprefix(b"data:"))

    def _waited(self) -> float | None:
        """Seconds until the first byte."""
        return None if self._first_byte is None else self._first_byte - self._started

    def _tokens(self, state: Mapping[str, Any]) -> Usage:
        """Of the prompt and of the answer; vLLM leaves them on the request, or in a response.
        Asked once it has ended.
        """
        if self._counted is None:
            usage = counted(state)
            if usage is None and self._endpoint is RESPONSES and self._last and self._complete:
                usage = _tokens_of_response(self._last)
            self._counted = usage or Usage()
        return self._counted

    @property
    def outcome(self) -> str:
        """`ok`, `engine_error`, `client_error` or `disconnected`: asked once it has ended."""
        if self._outcome is None:
            self._outcome = self._found_outcome()
        return self._outcome

    def _found_outcome(self) -> str:
        if self._failed:
            return "engine_error"
        # FastAPI answers `null` and 200 where vLLM gave up for a client that went away
        if self._client_gone or not self._complete:
            return "disconnected"
        if self._status >= 500 or self._error_event is not None:
            return "engine_error"
        return "ok" if self._status < 400 else "client_error"


def counted(state: Mapping[str, Any]) -> Usage | None:
    """What the engine has counted, which vLLM leaves on the request's state."""
    usage = getattr(state.get("request_metadata"), "final_usage_info", None)
    if usage is None:
        return None
    return Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0)


def _tokens_of_response(body: bytes) -> Usage:
    """The counts that a whole response holds, or its stream's last event."""
    document = http_errors.document_of(body.partition(b"\ndata: ")[2] or body)
    usage = document.get("response", document).get("usage")
    if not isinstance(usage, dict):
        return Usage()
    return Usage(usage.get("input_tokens", 0), usage.get("output_tokens", 0))


class Enveloped:
    """Wraps `send` for a route of ours: the framework's own errors are said in our envelope."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body: list[bytes] = []

    async def send(self, message: Message) -> None:
        """An ASGI `send`."""
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._finish(self._start, b"".join(self._body))

    async def _finish(self, start: Message, body: bytes) -> None:
        if not http_errors.is_envelope(body):
            status, body, headers = http_errors.restate(start["status"], body)
            headers += [pair for pair in start["headers"] if pair[0] == b"allow"]
            headers.append((b"content-length", str(len(body)).encode()))
            start = {**start, "status": status, "headers": headers}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})
