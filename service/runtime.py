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
from dataclasses import dataclass, field

import structlog

from adapters.errors import InvalidKey
from adapters.keys import MAX_BEARER, Caller, hash_key
from adapters.registry import Registry
from adapters.settings import Settings
from adapters.store import ArtifactStore
from service.converger import Converger
from service.engine import Engine
from service.leases import Leases
from service.metrics import Metrics
from service.units_watch import UnitsWatch

log = structlog.get_logger("wardrobe.service")


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
    pepper: bytes = field(repr=False)
    draining: bool = False
    files_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Held while a file's row and bytes are brought into step."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Every live version answers, and we are not on the way out."""
        return self.converger.synced and not self.converger.missing and not self.draining

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

    def start(self) -> None:
        """Starts the background tasks."""
        self._tasks = [
            asyncio.create_task(self.converger.run(), name="converger"),
            asyncio.create_task(self.units.run(), name="units"),
        ]

    async def stop(self) -> None:
        """Stops the background tasks and lets go of the registry."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        with contextlib.suppress(Exception):  # on the way out; the report ages by itself
            await asyncio.to_thread(self.registry.forget_replica, replica_id(self.settings))
        self.registry.close()

    async def drain(self) -> None:
        """Red, no new requests, running answers finish, then vLLM's own way out (SIGINT)."""
        if self.draining:
            return
        self.draining = True
        log.info("draining", in_flight=self.leases.total)
        finished = await self.leases.drained(self.settings.drain_seconds)
        log.info("drained", complete=finished, left=self.leases.total)
        os.kill(os.getpid(), signal.SIGINT)


def replica_id(settings: Settings) -> str:
    """The same after a restart, so that a dead replica's report is replaced, not waited for."""
    return f"{platform.node()}:{settings.port}"
