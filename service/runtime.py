"""The composition root of one service process: made once, reached by the gateway and the routers.

vLLM offers two doors, a plugin and a middleware, and `app.state.wardrobe` is where they meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from adapters.domain.principals import MAX_BEARER, Caller, hash_key
from adapters.errors import InvalidKey
from adapters.registry import Registry
from adapters.settings import Settings
from adapters.store import ArtifactStore
from service.engine.vllm_engine import Engine
from service.gateway.leases import Leases
from service.grammars import Grammars
from service.launch.units_watch import UnitsWatch
from service.metrics import Metrics
from service.reconcile.converger import Converger

STOP_SECONDS = 2.0
"""For each step of letting go of the registry; what is late ages by itself in 10 s."""

log = structlog.get_logger("wardrobe.service")


def interrupt() -> None:
    """vLLM's own way out of this process."""
    os.kill(os.getpid(), signal.SIGINT)


@dataclass(kw_only=True)
class Runtime:
    """Everything a request may need, and the tasks behind it."""

    settings: Settings
    registry: Registry
    store: ArtifactStore
    engine: Engine
    leases: Leases
    converger: Converger
    units: UnitsWatch
    metrics: Metrics
    grammars: Grammars
    pepper: bytes = field(repr=False)
    draining: bool = False
    files_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Held while a file's row and bytes are brought into step."""
    end: Callable[[], None] = field(default=interrupt, repr=False)
    """Ends the process, once drained."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _drain: asyncio.Task[None] | None = None
    _stopping: bool = False
    _met_caller: bool = False

    @property
    def ready(self) -> bool:
        """The swap loop is where it should be, and we are not on the way out."""
        return self.converger.ready and not self.draining

    def authenticate(self, header: bytes | None) -> Caller:
        """Whose request it is. Raises InvalidKey, the same for every wrong key."""
        scheme, _, secret = (header or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not secret or len(secret) > MAX_BEARER:
            raise InvalidKey("send your key as `Authorization: Bearer <key>`")
        hashed = hash_key(secret.decode("utf-8", "surrogateescape"), pepper=self.pepper)
        caller = self.converger.table.caller(hashed)
        if caller is None:
            raise InvalidKey("this key is not known")
        return caller

    def note_caller(self) -> None:
        """From now on, logs are kept free of content (`service.content_free_logs`)."""
        if not self._met_caller:
            self.settings.state_folder.starting.unlink(missing_ok=True)
            self._met_caller = True

    def start(self) -> None:
        """Starts the background tasks."""
        self._tasks = [
            self._background(self.converger.run(), "converger"),
            self._background(self.units.run(), "units"),
        ]

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not self._stopping and not task.cancelled():
            log.error("background_task_ended", task=task.get_name(), exc_info=task.exception())

    async def stop(self) -> None:
        """Stops the background tasks, takes back this replica's report, closes the registry.

        The swap loop ends between two ticks, so that none of its reports comes after the last.
        """
        self._stopping = True
        self.converger.stop()
        await _ended(self._tasks[:1])
        for task in self._tasks:
            task.cancel()
        await _ended(self._tasks)
        with contextlib.suppress(Exception):  # on the way out; the report ages by itself
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.to_thread(self.registry.forget_replica, replica_id(self.settings))
        await self.grammars.stop()
        self.registry.close()

    def start_drain(self) -> None:
        """`drain`, from a signal handler."""
        if self._drain is None:
            self._drain = self._background(self.drain(), "drain")

    async def drain(self) -> None:
        """Red, no new requests, running answers finish, and the process ends."""
        if self.draining:
            return
        self.draining = True
        log.info("draining", in_flight=self.leases.total)
        try:
            finished = await self.leases.drained(self.settings.drain_seconds)
            log.info("drained", complete=finished, left=self.leases.total)
            await self.stop()
        finally:
            self.end()


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)


def replica_id(settings: Settings) -> str:
    """The same after a restart, so that a dead replica's report is replaced, not waited for."""
    return f"{platform.node()}:{settings.port}"
