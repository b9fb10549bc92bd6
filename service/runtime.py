"""Holds one service process together: made once, reached by the gateway and the routers.

vLLM offers two doors, a plugin and a middleware, and `app.state.wardrobe` is where they meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from adapters.admission.base_model import BaseShapes
from adapters.domain.api_keys import MAX_BEARER, KeyHasher
from adapters.domain.principals import Principal
from adapters.errors import InvalidKey, Unavailable
from adapters.registry import Registry
from adapters.settings import Settings
from adapters.signatures import Signer
from adapters.store import ArtifactStore
from service.engine.abilities import Abilities
from service.engine.grammars import Grammars
from service.engine.leases import Leases
from service.engine.meters import Meters
from service.engine.port import Engine
from service.engine.pulse import Pulse
from service.engine.quarantine import Quarantine
from service.engine.shared_residency import Reason, SharedResidency
from service.engine.turns import Turns
from service.engine.vital_signs import VitalSigns
from service.metrics import Metrics
from service.observe.request_log import FLUSH_SECONDS, RequestLog
from service.observe.request_record import RequestRecord
from service.observe.traces import Traces
from service.open_bodies import OpenBodies
from service.reconcile.copies import Copies
from service.reconcile.repeat import Repeat
from service.reconcile.route_table import RouteTable
from service.reconcile.units_watch import UnitsWatch
from service.request_threads import RequestThreads
from service.swap import Swap
from service.tokens.holders import MAX_TOKEN

STOP_SECONDS = 2.0
"""For each step of letting go of the registry."""

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
    residency: SharedResidency
    leases: Leases
    signs: VitalSigns
    pulse: Pulse
    quarantine: Quarantine
    meters: Meters
    turns: Turns
    swap: Swap
    units: UnitsWatch
    metrics: Metrics
    grammars: Grammars
    abilities: Abilities
    base_shapes: BaseShapes
    """What an adapter that is imported must fit."""
    base_created: int
    """When the base was put where it is, in seconds since 1970."""
    request_log: RequestLog
    signer: Signer | None = field(repr=False)
    """Signs what is imported; None where this installation has no key, or this process none."""
    traces: Traces | None
    """None where nobody asked for them, and then they cost nothing."""
    open_bodies: OpenBodies = field(default_factory=OpenBodies)
    threads: RequestThreads = field(default_factory=RequestThreads)
    """For the blocking calls of requests. Never closed: a command that was committed is answered
    while the process ends, and looks at its route once more.
    """
    copies: Copies = field(default_factory=Copies)
    """Of requests, for shadows."""
    pepper: bytes = field(repr=False)
    hasher: KeyHasher = field(init=False, repr=False)
    draining: bool = False
    drained: bool = False
    """Nobody waits any longer for answers that still run: what ends now is cut off."""
    end: Callable[[], None] = field(default=interrupt, repr=False)
    """Ends the process, once drained."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _drain: asyncio.Task[None] | None = None
    _stopping: bool = False
    _met_caller: bool = False

    def __post_init__(self) -> None:
        self.hasher = KeyHasher(self.pepper)

    @property
    def table(self) -> RouteTable:
        """What names and keys mean."""
        return self.swap.routes.table

    @property
    def settled(self) -> bool:
        """Ready as far as this process goes: the registry was read and observed, the engine lives,
        and every live version answers or has failed with a reason.
        """
        return (
            self.swap.routes.trusted
            and self.swap.membership.admits
            and self.engine.alive
            and not self.swap.loader.missing()
        )

    @property
    def stranded(self) -> bool:
        """Whether versions are live and every one of them was trained on another base model.

        Nobody is served an adapter then: most likely the wrong base is served. It is no question of
        readiness, because successors are proven by this very replica.
        """
        live, unavailable = self.table.live(), self.swap.loader.unavailable()
        reasons = (unavailable[alias][1] if alias in unavailable else None for alias in live)
        return bool(live) and all(reason is Reason.BASE_MISMATCH for reason in reasons)

    @property
    def ready(self) -> bool:
        """Settled, and not on the way out."""
        return self.settled and not self.draining

    def authenticate(
        self, header: bytes | None, others: Iterable[tuple[bytes, bytes]] = ()
    ) -> Principal:
        """Whose request it is; `others` are its headers, which choose among a token's units.

        Raises InvalidKey, the same for every wrong key, and Unavailable (`starting`,
        `registry_unavailable`) while no key can be known; for tokens what `TokenHolders` raises.
        """
        scheme, _, secret = (header or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not secret or len(secret) > MAX_TOKEN:
            raise InvalidKey("send your key as `Authorization: Bearer <key>`")
        if not self.swap.routes.trusted:
            raise self._knows_nobody()
        principal = self._key_holder(secret) or self._token_holder(secret, others)
        if principal is None:
            raise InvalidKey("this key is not known")
        return principal

    def _knows_nobody(self) -> Unavailable:
        if not self.swap.routes.synced:
            return Unavailable("this replica is starting", code="starting")
        return Unavailable(
            "this replica has not reached the registry for so long that it believes no key",
            code="registry_unavailable",
        )

    def _key_holder(self, secret: bytes) -> Principal | None:
        """One hash and one look; two of each while keys of earlier builds are in force."""
        if len(secret) > MAX_BEARER:
            return None
        text, table = secret.decode("utf-8", "surrogateescape"), self.table
        principal = table.principal(self.hasher.hash(text))
        if principal is None and table.knows_old_hashes:
            principal = table.principal(self.hasher.hash_of_earlier_builds(text))
        if principal is not None:
            self.swap.key_uses.note(principal.id)
        return principal

    def _token_holder(
        self, secret: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> Principal | None:
        """Where tokens are taken, and while the unit that it is for is there."""
        if self.swap.tokens is None:
            return None
        principal = self.swap.tokens.principal(secret, dict(headers).get(b"openai-project"))
        return principal if principal is not None and self.table.is_there(principal) else None

    def note_caller(self) -> None:
        """From now on, logs are kept free of content (`service.engine.content_free_logs`)."""
        if not self._met_caller:
            self.settings.state_folder.starting.unlink(missing_ok=True)
            self._met_caller = True

    def tell(self, record: RequestRecord) -> None:
        """Tells whoever watches from outside of a request that has ended.

        Probes that nobody authenticates for come several times a second and are not told of.
        """
        if record.code is not None:
            self.metrics.errors.labels(record.code).inc()
        elif record.actor is None:
            return
        self.request_log.note(record)
        if self.traces is not None:
            self.traces.note(record)

    def start(self) -> None:
        """Starts the background tasks; the web server is about to accept connections, and the
        fallback server takes none from here on.
        """
        self.signs.accept()
        self._tasks = [
            self._background(owner.repeat.run(), owner.repeat.owner) for owner in self.swap.owners
        ]
        writing = Repeat(
            "request_log", self.request_log.step, every=FLUSH_SECONDS, metrics=self.metrics
        )
        self._tasks.append(self._background(writing.run(), writing.owner))
        self._tasks.append(self._background(self.units.run(), "units"))
        self._tasks.append(self._background(self.pulse.run(), "pulse"))

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not self._stopping and not task.cancelled():
            log.error("background_task_ended", task=task.get_name(), exc_info=task.exception())

    async def stop(self) -> None:
        """Stops the background tasks, takes back this process's rows, closes the registry.

        The owners end between two steps, so that none of their reports comes after the last.
        """
        self._stopping = True
        self.swap.stop()
        await _ended(self._tasks[: len(self.swap.owners)])
        for task in self._tasks:
            task.cancel()
        await _ended(self._tasks)
        with contextlib.suppress(Exception):  # on the way out; silent rows are replaced later
            async with asyncio.timeout(STOP_SECONDS):
                await self.swap.usage.finish()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(STOP_SECONDS):
                await self.swap.heartbeat.leave()
        await self.grammars.stop()
        self.signs.cease()
        self.close()

    def close(self) -> None:
        """Lets go of everything that `stop` leaves, and of the rows' owner without a word."""
        self.swap.close()
        self.units.close()
        self.registry.close()
        self.request_log.flush()
        if self.traces is not None:
            self.traces.close()

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
        self.copies.stop()
        try:
            finished = await self.leases.drained(self.settings.drain_seconds)
            self.drained = True
            log.info("drained", complete=finished, left=self.leases.total)
            await self.swap.rollouts.end_waits()
            await self.stop()
        finally:
            self.end()


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)


def replica_id(settings: Settings) -> str:
    """The same after a restart, so that a dead replica's rows are replaced, not waited for."""
    return f"{platform.node()}:{settings.port}"
