"""The request path alone: CPU time of the gateway over an application that answers at once.

Everything is real but the engine: registry, keys, routing table, leases, metrics. Nothing waits,
so the difference of CPU time with and without the gateway is what it costs a request.

`python -m benchmarks.null_path` measures it alone, in a few seconds.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.domain.names import Alias, VersionId
from adapters.domain.principals import SYSTEM
from adapters.domain.versions import ServedVersion
from adapters.logs import configure_logs
from adapters.settings import Settings
from benchmarks.stand import ALIAS, StandFailed, prepared_settings, publish
from service.engine.grammars import NoGrammars
from service.gateway.gateway import Gateway
from service.launch.plugin import build_runtime
from service.runtime import Runtime

REPETITIONS = 20
REQUESTS = 200
"""Of each side in half a repetition."""
LIVE_SECONDS = 30.0
CHUNKS = 64
"""Of the long stream; the short one has one."""
PATH = "/v1/chat/completions"
USAGE = SimpleNamespace(
    final_usage_info=SimpleNamespace(prompt_tokens=40, completion_tokens=CHUNKS)
)
SDK_HEADERS = (
    (b"host", b"127.0.0.1:8000"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"accept", b"application/json"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"OpenAI/Python 3.54.0"),
    (b"x-stainless-lang", b"python"),
    (b"x-stainless-package-version", b"3.54.0"),
    (b"x-stainless-os", b"Linux"),
    (b"x-stainless-arch", b"x64"),
    (b"x-stainless-runtime", b"CPython"),
    (b"x-stainless-runtime-version", b"3.11.7"),
    (b"x-stainless-async", b"false"),
    (b"x-stainless-retry-count", b"0"),
    (b"x-stainless-read-timeout", b"600"),
)
"""What the `openai` SDK sends with each request."""


class NullEngine:
    """`service.engine.port.Engine` that has nothing to load into."""

    alive = True

    def __init__(self) -> None:
        self._resident: set[VersionId] = set()
        self.limits: Mapping[str, Any] = {
            "engine": "null",
            "max_cpu_loras": 8,
            "max_model_len": 4096,
        }

    @property
    def resident(self) -> frozenset[VersionId]:
        return frozenset(self._resident)

    async def load(self, version: ServedVersion, path: Path) -> None:
        self._resident.add(version.id)

    async def ping(self, *, workers: bool) -> None:
        """It lives."""

    async def unload(self, version_id: VersionId) -> None:
        self._resident.discard(version_id)

    def name(self, version: ServedVersion, path: Path) -> None:
        self._resident.add(version.id)

    def forget(self, version_id: VersionId) -> None:
        self._resident.discard(version_id)

    def spent(self, request_id: str) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of request: how long the prompt is, and how many chunks the answer has."""

    name: str
    prompt_bytes: int
    chunks: int

    def body(self) -> bytes:
        """As the SDK writes it."""
        said = [
            {"role": "system", "content": "You answer customers in one sentence."},
            {"role": "user", "content": "Where is my parcel? " * (self.prompt_bytes // 20)},
        ]
        extra = {"stream": True, "stream_options": {"include_usage": True}}
        words = {"model": ALIAS, "messages": said, "max_tokens": CHUNKS, "temperature": 0.0}
        return json.dumps({**words, **(extra if self.chunks else {})}).encode()


CASES = (
    Case(name="short prompt", prompt_bytes=400, chunks=0),
    Case(name="long prompt", prompt_bytes=8000, chunks=0),
    Case(name="stream of 1", prompt_bytes=400, chunks=1),
    Case(name=f"stream of {CHUNKS}", prompt_bytes=400, chunks=CHUNKS),
)


@dataclass(frozen=True, kw_only=True)
class Added:
    """CPU microseconds a request costs more with the gateway than without, over repetitions."""

    case: str
    bare_us: float
    added_us: float
    """The median."""
    low_us: float
    high_us: float
    """The quartiles."""


class NullApp:
    """Stands for vLLM's handlers: reads the body, answers at once, leaves the usage behind."""

    def __init__(self, chunks: int) -> None:
        headers = [(b"content-type", b"application/json" if not chunks else b"text/event-stream")]
        data = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
        parts = [data] * chunks if chunks else [b'{"id":"chatcmpl-1","choices":[],"usage":null}']
        self._start = {"type": "http.response.start", "status": 200, "headers": headers}
        self._parts = [
            {"type": "http.response.body", "body": part, "more_body": i < len(parts) - 1}
            for i, part in enumerate(parts)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scope["state"]["request_metadata"] = USAGE
        await send(self._start)
        for part in self._parts:
            await send(part)


class Caller:
    """One client of an ASGI application, without a network."""

    def __init__(self, app: ASGIApp, host: FastAPI, key: str, body: bytes) -> None:
        self._app = app
        self._host = host
        self._headers = [
            *SDK_HEADERS,
            (b"authorization", f"Bearer {key}".encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        self._body: Message = {"type": "http.request", "body": body, "more_body": False}
        self.sent = 0
        self.status = 0

    async def _receive(self) -> Message:
        return self._body

    async def _send(self, message: Message) -> None:
        self.sent += 1
        self.status = message.get("status", self.status)

    async def ask(self, times: int) -> float:
        """CPU microseconds a request."""
        began = time.thread_time_ns()
        for _ in range(times):
            scope = {
                "type": "http",
                "method": "POST",
                "path": PATH,
                "query_string": b"",
                "headers": list(self._headers),
                "app": self._host,
                "state": {},
            }
            await self._app(scope, self._receive, self._send)
        return (time.thread_time_ns() - began) / times / 1000.0


def measure(*, repetitions: int = REPETITIONS, requests: int = REQUESTS) -> list[Added]:
    """Every case, the two sides in turns. Once per process: metrics are registered for good.

    Raises StandFailed when an answer is not a 200.
    """
    with prepared_settings() as settings:
        return asyncio.run(_measure(settings, (repetitions, requests)))


async def _measure(settings: Settings, size: tuple[int, int]) -> list[Added]:
    runtime = build_runtime(settings, NullEngine(), NoGrammars())
    try:
        await _put_live(runtime)
        host = FastAPI()
        host.state.wardrobe = runtime
        keys = json.loads(settings.state_folder.keys.read_text("utf-8"))
        return [await _case(case, host, keys["units"][ALIAS], size) for case in CASES]
    finally:
        await runtime.stop()


async def _put_live(runtime: Runtime) -> None:
    version = publish(runtime.settings, runtime.registry.versions)
    runtime.registry.rollouts.promote(
        Alias(version.adapter), version.id, SYSTEM, unit=version.unit, expected_generation=None
    )
    try:
        async with asyncio.timeout(LIVE_SECONDS):
            while not runtime.table.live():
                for owner in runtime.swap.owners:
                    await owner.repeat.attempt()
    except TimeoutError:
        raise StandFailed(f"{version.name} did not become live") from None


async def _case(case: Case, host: FastAPI, key: str, size: tuple[int, int]) -> Added:
    repetitions, requests = size
    null = NullApp(case.chunks)
    bare = Caller(null, host, key, case.body())
    ours = Caller(Gateway(null), host, key, case.body())
    for caller in (bare, ours):
        await caller.ask(requests)
        if caller.status != 200:
            raise StandFailed(f"{case.name}: answered with {caller.status}")
    without, added = [], []
    for _ in range(repetitions):
        first = await bare.ask(requests)
        second = await ours.ask(requests) + await ours.ask(requests)
        first += await bare.ask(requests)
        without.append(first / 2.0)
        added.append((second - first) / 2.0)
    low, middle, high = statistics.quantiles(added, n=4)
    return Added(
        case=case.name,
        bare_us=statistics.median(without),
        added_us=middle,
        low_us=low,
        high_us=high,
    )


if __name__ == "__main__":
    configure_logs("warning")
    print(json.dumps([asdict(case) for case in measure()]))
