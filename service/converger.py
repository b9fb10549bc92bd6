"""The swap loop: every replica converges to the registry, by itself, for ever.

One tick: read the registry if it changed, plan, unload and load, acknowledge, and finish the
rollouts that every live replica has acknowledged. A tick that fails is logged and repeated: a
dead database never stops the answers of versions that are already here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from adapters.errors import EngineUnavailable, Rejected, WardrobeError
from adapters.names import Digest, VersionId
from adapters.registry import Registry, ReplicaReport, Snapshot
from adapters.routes import Rollout
from adapters.store import ArtifactStore
from adapters.versions import Version
from service import plan as planning
from service.engine import Engine
from service.leases import Leases
from service.metrics import Metrics
from service.routing import RoutingTable

POLL_SECONDS = 0.25
REPORT_SECONDS = 2.0
REPLICA_TIMEOUT = 10.0
"""Seconds without a report after which a replica no longer holds up rollouts."""
LOAD_TIMEOUT = 60.0
"""Seconds a request waits for its version to be loaded."""
RETRY_SECONDS = 10.0
"""Between attempts to load a version that failed."""
MAX_WARM = 64

log = structlog.get_logger("wardrobe.swap")


@dataclass(frozen=True, kw_only=True)
class Replica:
    """Who this process is in the registry."""

    id: str
    base_fingerprint: Digest


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a version could not be loaded, and when it was last tried."""

    error: WardrobeError
    at: float


class Converger:
    """Owns the routing table and what the engine has loaded."""

    def __init__(
        self,
        *,
        replica: Replica,
        registry: Registry,
        store: ArtifactStore,
        engine: Engine,
        leases: Leases,
        metrics: Metrics,
        build: Callable[[Snapshot], RoutingTable],
    ) -> None:
        self._replica = replica
        self._registry = registry
        self._store = store
        self._engine = engine
        self._leases = leases
        self._metrics = metrics
        self._build = build
        self._warm: OrderedDict[VersionId, None] = OrderedDict()
        self._failures: dict[VersionId, Failure] = {}
        self._wake = asyncio.Event()
        self._ticked = asyncio.Condition()
        self._reading = asyncio.Lock()
        self._reported: tuple[Any, ...] = ()
        self._reported_at = 0.0
        self._draining: dict[VersionId, float] = {}
        self.snapshot = Snapshot(revision=-1, routes={}, rollouts=(), versions={}, keys=())
        self.table = build(self.snapshot)

    # -- what the rest of the service asks

    @property
    def missing(self) -> tuple[Version, ...]:
        """Live versions that do not answer yet: why readiness is red."""
        resident = self._engine.resident
        return tuple(
            self.snapshot.versions[version] for version in sorted(self.table.live - resident)
        )

    @property
    def synced(self) -> bool:
        """Whether the registry has been read at all."""
        return self.snapshot.revision >= 0

    def failure_of(self, version: VersionId) -> str | None:
        """Why a version is not here, for operators."""
        failure = self._failures.get(version)
        return failure.error.message if failure else None

    def kick(self) -> None:
        """Something changed: do not wait for the next poll."""
        self._wake.set()

    async def ensure(self, version: Version) -> None:
        """Waits until `version` answers; loads it on first use, once for all who wait.

        Raises EngineUnavailable when it takes too long or no slot is free, Rejected when it
        cannot be loaded.
        """
        self._touch(version.id)
        if version.id in self._engine.resident:
            return
        if not self._failed_lately(version.id):
            self.kick()
            await self.until(
                lambda: version.id in self._engine.resident or self._failed_lately(version.id),
                timeout=LOAD_TIMEOUT,
            )
        if version.id in self._engine.resident:
            return
        if self._failed_lately(version.id):
            raise self._failures[version.id].error
        raise EngineUnavailable(f"no slot became free for {version.name}", param="model")

    async def until(self, condition: Callable[[], bool], *, timeout: float) -> bool:
        """Waits until `condition` holds after some tick; False when it takes too long."""
        try:
            async with asyncio.timeout(timeout), self._ticked:
                await self._ticked.wait_for(condition)
        except TimeoutError:
            return False
        return True

    def _touch(self, version: VersionId) -> None:
        self._warm[version] = None
        self._warm.move_to_end(version, last=False)
        while len(self._warm) > MAX_WARM:
            self._warm.popitem()

    # -- the loop

    async def run(self) -> None:
        """Ticks until cancelled."""
        while True:
            try:
                again = await self.tick()
            except Exception:  # the edge of a background process: log, count, try again
                log.exception("tick_failed")
                self._metrics.registry_errors.inc()
                again = False
            async with self._ticked:
                self._ticked.notify_all()
            if again:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)
            self._wake.clear()

    async def tick(self) -> bool:
        """One round; the answer is whether another should follow at once."""
        await self.refresh()
        await self._converge()
        await self._report()
        flipped = [await self._finish(rollout) for rollout in self.snapshot.rollouts]
        self._observe()
        return any(flipped)

    async def refresh(self) -> None:
        """Reads the registry now: what was committed before the call is routed by after it."""
        async with self._reading:
            revision = await asyncio.to_thread(self._registry.revision)
            if revision == self.snapshot.revision:
                return
            snapshot = await asyncio.to_thread(self._registry.snapshot)
            table = self._build(snapshot)
            now = time.monotonic()
            for version in self.table.live - table.live:
                self._draining[version] = now
            self.snapshot, self.table = snapshot, table

    async def _converge(self) -> None:
        wanted = [
            version
            for version in planning.desired(self.snapshot, list(self._warm))
            if not self._failed_lately(version)
        ]
        steps = planning.plan(
            wanted,
            servable=self.snapshot.versions.keys(),
            loaded=self._engine.resident,
            leased=self._leases.held,
            capacity=int(self._engine.limits["max_cpu_loras"]),
        )
        for version in steps.unload:
            if version not in self._leases.held:
                await self._engine.unload(version)
        for version in steps.load:
            await self._load(self.snapshot.versions[version])

    def _failed_lately(self, version: VersionId) -> bool:
        failure = self._failures.get(version)
        return failure is not None and time.monotonic() - failure.at < RETRY_SECONDS

    async def _load(self, version: Version) -> None:
        started = time.perf_counter()
        try:
            if version.base_fingerprint != self._replica.base_fingerprint:
                raise Rejected(
                    f"{version.name} was trained on another base model", code="base_mismatch"
                )
            path = await asyncio.to_thread(self._store.adapter_path, version.digest)
            await self._engine.load(version, path)
        except WardrobeError as error:
            self._failures[version.id] = Failure(error=error, at=time.monotonic())
            self._metrics.loads.labels(outcome="failed").inc()
            log.warning("load_failed", version=version.name, reason=error.reason)
            return
        self._failures.pop(version.id, None)
        seconds = time.perf_counter() - started
        self._metrics.loads.labels(outcome="loaded").inc()
        self._metrics.swap_phase.labels(phase="load").observe(seconds)
        log.info("loaded", version=version.name, seconds=round(seconds, 4))
        async with self._ticked:
            self._ticked.notify_all()

    async def _report(self) -> None:
        resident = self._engine.resident
        state = (self.snapshot.revision, resident, not self.missing)
        now = time.time()
        if state == self._reported and 0 <= now - self._reported_at < REPORT_SECONDS:
            return
        report = ReplicaReport(
            id=self._replica.id,
            at=now,
            revision=self.snapshot.revision,
            loaded=resident,
            ready=not self.missing,
            base_fingerprint=self._replica.base_fingerprint,
            limits=self._engine.limits,
        )
        await asyncio.to_thread(self._registry.report_replica, report)
        self._reported, self._reported_at = state, now

    async def _finish(self, rollout: Rollout) -> bool:
        """Flips the route once every live replica has the target; fails it when one cannot."""
        failure = self._failures.get(rollout.target)
        if failure is not None:
            await asyncio.to_thread(
                self._registry.fail_rollout, rollout.id, failure.error.message, at=time.time()
            )
            self._metrics.rollouts.labels(action=rollout.action, outcome="failed").inc()
            return True
        if not await self._acknowledged(rollout.target):
            return False
        started = time.perf_counter()
        await asyncio.to_thread(self._registry.complete_rollout, rollout.id, at=time.time())
        await self.refresh()
        self._metrics.swap_phase.labels(phase="flip").observe(time.perf_counter() - started)
        self._metrics.rollouts.labels(action=rollout.action, outcome="complete").inc()
        log.info("flipped", alias=rollout.alias, action=rollout.action, rollout=rollout.id)
        return True

    async def _acknowledged(self, target: VersionId) -> bool:
        if target not in self._engine.resident:
            return False
        replicas = await asyncio.to_thread(
            self._registry.replicas, newer_than=time.time() - REPLICA_TIMEOUT
        )
        return all(target in replica.loaded for replica in replicas)

    def _observe(self) -> None:
        now = time.monotonic()
        for version in [v for v in self._draining if v not in self._leases.held]:
            since = self._draining.pop(version)
            self._metrics.swap_phase.labels(phase="drain").observe(now - since)
        self._metrics.show_state(
            versions=self.snapshot.versions,
            resident=self._engine.resident,
            generations=self.table.generations,
            revision=self.snapshot.revision,
            ready=self.synced and not self.missing,
        )
