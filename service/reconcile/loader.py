"""The loader: brings the engine to the plan, one load at a time.

    fetch → verify → signature → load → probe → resident

One process of each engine is its loader; the others make their own handlers know what it has
loaded, and ask it for what they miss through what the processes share. Whatever else the service
does, it does not wait for a load: only a request whose version is not resident does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from adapters.domain.names import Digest, VersionId
from adapters.domain.versions import ServedVersion
from adapters.signing_keys import SignaturePolicy
from service.engine.port import Engine
from service.engine.quarantine import Quarantine
from service.engine.shared_residency import Failure, Reason, SharedResidency
from service.metrics import Metrics
from service.reconcile.acknowledgements import State, Unloadable
from service.reconcile.desired import Desired
from service.reconcile.fetches import Artifacts, Fetches
from service.reconcile.load_failures import LoadFailures, reason_of, told
from service.reconcile.load_requests import LoadRequests
from service.reconcile.repeat import Repeat
from service.reconcile.route_table import RouteTable

STEP_SECONDS = 1.0
FOLLOW_SECONDS = 0.05
"""How often a process whose requests wait looks whether another one has loaded their version."""

log = structlog.get_logger("wardrobe.swap")


@dataclass(frozen=True, kw_only=True)
class LoadedEngine:
    """The engine that versions are loaded into, and what is known about it."""

    port: Engine
    residency: SharedResidency
    """What it holds, as all of its API processes see it."""
    quarantine: Quarantine
    """What has killed it."""
    base_fingerprint: Digest


class Loader:
    """Owns what the engine holds."""

    def __init__(
        self,
        into: LoadedEngine,
        *,
        table: RouteTable,
        artifacts: Artifacts,
        signatures: SignaturePolicy,
        on_change: Callable[[], None],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change`: what the engine holds, or cannot hold, has changed. `clock`: the residency's
        own, for its times are compared.
        """
        self._table = table
        self._engine = engine = into.port
        self._residency = residency = into.residency
        self._quarantine = into.quarantine
        self._signatures = signatures
        self._fetches = Fetches(
            artifacts,
            on_fetched=lambda: self.repeat.kick(),  # noqa: PLW0108 - made below
        )
        self._on_change = on_change
        self._metrics = metrics
        self._failures = LoadFailures(
            table=table, residency=residency, base_fingerprint=into.base_fingerprint, clock=clock
        )
        self._desired = Desired(
            table=table, residency=residency, failures=self._failures, clock=clock
        )
        self._requests = LoadRequests(
            table=table,
            engine=engine,
            residency=residency,
            failures=self._failures,
            on_asked=lambda: self.repeat.kick(),  # noqa: PLW0108 - made below
        )
        self._state: State = {}
        self._owner = False
        self.repeat = Repeat("loader", self.step, every=STEP_SECONDS, metrics=metrics)

    # -- what the rest of the service asks

    @property
    def owner(self) -> bool:
        """Whether this process loads for its engine."""
        return self._owner

    @property
    def requires_signatures(self) -> bool:
        """Whether a version that nobody has signed is not loaded."""
        return self._signatures.mode == "require"

    def failure(self, version: ServedVersion) -> Failure | None:
        """Why a version cannot be served by this replica."""
        return self._failures.of(version)

    def unavailable(self) -> Mapping[str, tuple[ServedVersion, Reason]]:
        """Aliases whose live version cannot be served, with the version and the reason."""
        return {
            alias: (version, failure.reason)
            for alias, version in self._table.live().items()
            if (failure := self.failure(version)) is not None
        }

    def missing(self) -> Sequence[ServedVersion]:
        """Live versions that neither answer nor have failed yet: why readiness is red."""
        return [
            version
            for version in self._table.answering()
            if version.id not in self._engine.resident and self.failure(version) is None
        ]

    @property
    def waiting(self) -> int:
        """Requests of this process that wait for a version to be loaded."""
        return self._requests.waiting

    def state(self) -> State | None:
        """What is to be acknowledged: loaded, or the reason. None where another process loads."""
        return self._state if self._owner else None

    async def ensure(self, version: ServedVersion) -> None:
        """Waits until `version` answers; loads it on first use. Raises as `LoadRequests.wait`."""
        await self._requests.wait(version)

    # -- the owner's own steps

    async def step(self) -> bool:
        """At most one load; whether another step should follow at once."""
        if not self._residency.own():
            return await self._follow()
        if not self._owner:
            await self._take_over()
            self._owner = True  # and not before: what fails in it is tried again
        if not self._engine.alive:
            return False
        await self._name_what_is_resident()
        for version_id in self._desired.newly_required():  # tried at once, however it failed before
            self._residency.forget_failure(version_id)
        capacity = int(self._engine.limits["max_cpu_loras"])
        steps = self._desired.plan(capacity=capacity)
        for version in self._desired.without_slot(steps, capacity=capacity):
            self._note_failure(version, Reason.NO_SLOT)
        for version_id in steps.unload:
            await self._unload(version_id)
        found = (self._table.version(version_id) for version_id in steps.load)
        fetched = await self._fetches.first([v for v in found if v is not None])
        if fetched is not None:
            await self._load(fetched)
        await self._announce()
        return fetched is not None

    def _found(self) -> State:
        """Everything resident, and why what routes and rollouts need is not."""
        failed = {
            version.id: Unloadable(error=f"{version.name}: {told(failure.reason)}", at=failure.at)
            for version in self._table.required()
            if (failure := self.failure(version)) is not None
        }
        return {**failed, **dict.fromkeys(sorted(self._residency.resident()))}

    async def _announce(self) -> None:
        if self._owner:
            self._state = self._found()
        await self._requests.look_again()
        self._on_change()

    async def _take_over(self) -> None:
        """The loader before this one may have died within a load; its pins have ended with it."""
        for version_id in self._residency.left_behind():
            await self._engine.unload(version_id)
            self._residency.note_unloaded(version_id)
        for version in map(self._table.version, self._residency.resident()):
            if version is None:
                continue
            try:
                await self._fetches.pin(version)
            except Exception as error:  # one version's edge
                log.warning("pin_failed", version=version.name, reason=reason_of(error))

    async def _follow(self) -> bool:
        """Another process loads: this one makes its handlers know what is there."""
        await self._name_what_is_resident()
        await self._announce()
        if not self._requests.waiting and not self.missing():
            return False
        await asyncio.sleep(FOLLOW_SECONDS)
        return True

    async def _name_what_is_resident(self) -> None:
        """Names what others have loaded, forgets what others have unloaded."""
        resident = self._residency.resident()
        for version_id in set(self._engine.resident) - resident:
            self._engine.forget(version_id)
        for version_id in resident - set(self._engine.resident):
            version = self._table.version(version_id)
            if version is None:
                continue
            try:
                self._engine.name(version, await self._fetches.path(version))
            except Exception as error:  # one version's edge
                log.warning("name_failed", version=version.name, reason=reason_of(error))

    async def _unload(self, version_id: VersionId) -> None:
        with self._residency.unused(version_id) as unused:
            if not unused:
                return
            self._residency.begin_unload(version_id)
        # nobody can take a lease of it any more, and nobody has one
        try:
            await self._engine.unload(version_id)
        except Exception:  # one version's edge
            log.exception("unload_failed", version_id=version_id)
            self._metrics.swap_errors.labels(owner="loader").inc()
        finally:
            self._residency.note_unloaded(version_id)
            await self._fetches.release(version_id)

    async def _load(self, version: ServedVersion) -> None:
        self._desired.note_turn(version.unit)
        try:
            fetched = self._fetches.take(version)
            self._check_signature(version)
            with self._quarantine.loading(version.digest):
                self._residency.begin_load(version.id)
                await self._engine.load(version, fetched.path.result())
        except Exception as error:  # one version's edge: the others are still to be loaded
            self._note_failure(version, reason_of(error), error)
            await self._fetches.release(version.id)
            return
        self._residency.note_resident(version.id)
        seconds = time.perf_counter() - fetched.began
        self._metrics.loads.labels(outcome="loaded").inc()
        self._metrics.swap_phase.labels(phase="load").observe(seconds)
        log.info("loaded", version=version.name, seconds=round(seconds, 4))

    def _check_signature(self, version: ServedVersion) -> None:
        """Raises Rejected where the engine may not be given the version."""
        problem = self._signatures.check(version)
        if problem is not None:
            log.warning("signature_not_trusted", version=version.name, reason=problem.reason)

    def close(self) -> None:
        """Lets go of the threads."""
        self._fetches.close()

    def _note_failure(
        self, version: ServedVersion, reason: Reason, error: Exception | None = None
    ) -> None:
        before = self._residency.failure(version.id)
        self._residency.note_failed(version.id, reason)
        self._metrics.loads.labels(outcome="failed").inc()
        if before is None or before.reason is not reason:
            unforeseen = reason is Reason.LOAD_FAILED
            log.warning(
                "load_failed",
                version=version.name,
                reason=reason,
                exc_info=error if unforeseen else None,
            )
