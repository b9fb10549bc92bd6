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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from adapters.domain.names import Digest, VersionId
from adapters.domain.routes import Rollout
from adapters.domain.versions import Version
from adapters.errors import Conflict, EngineUnavailable
from adapters.registry import Registry, ReplicaReport, Snapshot
from adapters.store import ArtifactStore
from service.engine.vllm_engine import Engine
from service.gateway.leases import Leases
from service.metrics import Metrics
from service.reconcile import plan as planning
from service.reconcile.load_failures import Failures
from service.reconcile.route_table import RoutingTable

POLL_SECONDS = 0.25
REPORT_SECONDS = 2.0
REPLICA_TIMEOUT = 10.0
"""Seconds without a report after which a replica no longer holds up rollouts."""
LOAD_TIMEOUT = 60.0
"""Seconds a request waits for its version to be loaded."""
SLOT_SECONDS = 60.0
"""How long a rollout waits for a slot: leases end meanwhile, a full engine stays full."""
NO_SLOT = "no slot became free: raise WARDROBE_MAX_CPU_LORAS or serve fewer aliases"
MAX_WARM = 64

log = structlog.get_logger("wardrobe.swap")


@dataclass(frozen=True, kw_only=True)
class Replica:
    """Who this process is in the registry."""

    id: str
    base_fingerprint: Digest


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replica = replica
        self._registry = registry
        self._store = store
        self._engine = engine
        self._leases = leases
        self._metrics = metrics
        self._build = build
        self._clock = clock
        self._warm: OrderedDict[VersionId, None] = OrderedDict()
        self._failures = Failures(clock)
        self._wake = asyncio.Event()
        self._ticked = asyncio.Condition()
        self._reading = asyncio.Lock()
        self._reported: tuple[Any, ...] = ()
        self._reported_at = 0.0
        self._draining: dict[VersionId, float] = {}
        self._waiting: dict[int, float] = {}
        self._told: frozenset[VersionId] = frozenset()
        self._stopping = False
        self.snapshot = Snapshot(revision=-1, routes={}, rollouts=(), versions={}, keys=())
        self.table = build(self.snapshot)

    # -- what the rest of the service asks

    @property
    def missing(self) -> tuple[Version, ...]:
        """Live versions that do not answer yet: why readiness is red."""
        resident = self._engine.resident
        return tuple(v for v in self._live() if v.id not in resident and not self._misfit(v))

    @property
    def stranded(self) -> tuple[Version, ...]:
        """Live versions of another base model. They never will answer, so nothing waits for them:
        their successors are trained by a service that is ready.
        """
        return tuple(version for version in self._live() if self._misfit(version))

    @property
    def synced(self) -> bool:
        """Whether the registry has been read at all."""
        return self.snapshot.revision >= 0

    @property
    def ready(self) -> bool:
        """Every live version answers that ever can, and the engine lives."""
        return self.synced and self._engine.alive and not self.missing

    def failure_of(self, version: VersionId) -> str | None:
        """Why a version is not here, for operators."""
        known = self.snapshot.versions.get(version)
        if known is not None and (misfit := self._misfit(known)):
            return misfit.message
        return self._failures.reason(version)

    def kick(self) -> None:
        """Something changed: do not wait for the next poll."""
        self._wake.set()

    async def ensure(self, version: Version) -> None:
        """Waits until `version` answers; loads it on first use, once for all who wait.

        Raises Conflict (`base_mismatch`) when it never will, EngineUnavailable when it cannot be
        loaded now (`failure_of` says why), takes too long or finds no slot.
        """
        if misfit := self._misfit(version):
            raise misfit
        self._touch(version.id)
        if version.id in self._engine.resident:
            return
        if not self._failures.lately(version.id):
            self.kick()
            await self.until(
                lambda: version.id in self._engine.resident or self._failures.lately(version.id),
                timeout=LOAD_TIMEOUT,
            )
        if version.id in self._engine.resident:
            return
        if self._failures.lately(version.id):
            raise EngineUnavailable(f"{version.name} cannot be loaded now", param="model")
        raise EngineUnavailable(f"no slot became free for {version.name}", param="model")

    async def until(self, condition: Callable[[], bool], *, timeout: float) -> bool:
        """Waits until `condition` holds after some tick; False when it takes too long."""
        try:
            async with asyncio.timeout(timeout), self._ticked:
                await self._ticked.wait_for(condition)
        except TimeoutError:
            return False
        return True

    def _live(self) -> tuple[Version, ...]:
        return tuple(self.snapshot.versions[version] for version in sorted(self.table.live))

    def _misfit(self, version: Version) -> Conflict | None:
        if version.base_fingerprint == self._replica.base_fingerprint:
            return None
        return Conflict(
            f"{version.name} was trained on another base model than the one served; train it anew",
            param="model",
            code="base_mismatch",
        )

    def _touch(self, version: VersionId) -> None:
        self._warm[version] = None
        self._warm.move_to_end(version, last=False)
        while len(self._warm) > MAX_WARM:
            self._warm.popitem()

    # -- the loop

    async def run(self) -> None:
        """Ticks until stopped or cancelled."""
        while not self._stopping:
            again = await self.attempt()
            async with self._ticked:
                self._ticked.notify_all()
            if again:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)
            self._wake.clear()

    def stop(self) -> None:
        """Lets the present tick be the last."""
        self._stopping = True
        self._wake.set()

    async def attempt(self) -> bool:
        """A tick that never raises; the next one tries again."""
        try:
            return await self.tick()
        except Exception:
            self._note_error("tick_failed")
            return False

    async def tick(self) -> bool:
        """One round; the answer is whether another should follow at once."""
        await self.refresh()
        await self._converge()
        await self._report()
        ended = False
        for rollout in self.snapshot.rollouts:
            with self._guarded("rollout_failed_to_end", rollout=rollout.id):
                ended |= await self._finish(rollout)
        self._observe()
        return ended

    @contextlib.contextmanager
    def _guarded(self, event: str, **names: Any) -> Iterator[None]:
        """The edge of a background process: what fails is logged, counted and stops no other."""
        try:
            yield
        except Exception:
            self._note_error(event, **names)

    def _note_error(self, event: str, **names: Any) -> None:
        log.exception(event, **names)
        self._metrics.registry_errors.inc()

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
            self._tell_of_stranded()

    def _tell_of_stranded(self) -> None:
        for version in self.stranded:
            if version.id not in self._told:
                log.warning("version_stranded", version=version.name, reason="base_mismatch")
        self._told |= {version.id for version in self.stranded}

    async def _converge(self) -> None:
        versions = self.snapshot.versions
        wanted = [
            version
            for version in planning.desired(self.snapshot, list(self._warm))
            if not self._failures.lately(version) and not self._misfit(versions[version])
        ]
        steps = planning.plan(
            wanted,
            servable=versions.keys(),
            loaded=self._engine.resident,
            leased=self._leases.held,
            capacity=int(self._engine.limits["max_cpu_loras"]),
        )
        self._note_waiting(steps.waiting)
        for version in steps.unload:
            if version not in self._leases.held:
                with self._guarded("unload_failed", version_id=version):
                    await self._engine.unload(version)
        for version in steps.load:
            if self._engine.alive:
                await self._load(versions[version])

    def _note_waiting(self, waiting: Sequence[VersionId]) -> None:
        now = self._clock()
        rollouts = [rollout for rollout in self.snapshot.rollouts if rollout.target in waiting]
        for rollout in rollouts:
            if rollout.id not in self._waiting:
                log.warning("rollout_waits_for_a_slot", alias=rollout.alias, rollout=rollout.id)
        self._waiting = {rollout.id: self._waiting.get(rollout.id, now) for rollout in rollouts}

    async def _load(self, version: Version) -> None:
        started = time.perf_counter()
        try:
            path = await asyncio.to_thread(self._store.fetch, version.digest)
            await self._engine.load(version, path)
        except Exception as error:  # one version's edge: the others are still to be loaded
            self._failures.note(version, error)
            self._metrics.loads.labels(outcome="failed").inc()
            return
        self._failures.forget(version.id)
        seconds = time.perf_counter() - started
        self._metrics.loads.labels(outcome="loaded").inc()
        self._metrics.swap_phase.labels(phase="load").observe(seconds)
        log.info("loaded", version=version.name, seconds=round(seconds, 4))
        async with self._ticked:
            self._ticked.notify_all()

    async def _report(self) -> None:
        resident = self._engine.resident
        state = (self.snapshot.revision, resident, self.ready)
        now = time.time()
        if state == self._reported and 0 <= now - self._reported_at < REPORT_SECONDS:
            return
        report = ReplicaReport(
            id=self._replica.id,
            at=now,
            revision=self.snapshot.revision,
            loaded=resident,
            ready=self.ready,
            base_fingerprint=self._replica.base_fingerprint,
            limits=self._engine.limits,
        )
        await asyncio.to_thread(self._registry.report_replica, report)
        self._reported, self._reported_at = state, now

    async def _finish(self, rollout: Rollout) -> bool:
        """Flips the route once every live replica has the target; fails it when one cannot."""
        obstacle = self._obstacle(rollout)
        if obstacle is not None:
            await asyncio.to_thread(
                self._registry.fail_rollout, rollout.id, obstacle, at=time.time()
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

    def _obstacle(self, rollout: Rollout) -> str | None:
        """Why this replica cannot serve a rollout's target."""
        version = self.snapshot.versions.get(rollout.target)
        if version is None:
            return "the version may not be served any more"
        if reason := self.failure_of(version.id):
            return reason
        waited = self._clock() - self._waiting.get(rollout.id, self._clock())
        return NO_SLOT if waited >= SLOT_SECONDS else None

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
            ready=self.ready,
        )
