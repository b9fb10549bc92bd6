"""The loader: brings the engine to the plan, one load at a time.

    fetch → verify → load → probe → resident

One process of each engine is its loader; the others make their own handlers know what it has
loaded, and ask it for what they miss through what the processes share. Whatever else the service
does, it does not wait for a load: only a request whose version is not resident does.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from adapters.domain.names import Digest, Unit, VersionId
from adapters.domain.versions import ServedVersion
from adapters.errors import (
    Conflict,
    EngineUnavailable,
    NotFound,
    RateLimited,
    Rejected,
    StorageFull,
    Unavailable,
)
from service.engine.port import Engine
from service.engine.shared_residency import Failure, Reason, SharedResidency
from service.metrics import Metrics
from service.reconcile import plan as planning
from service.reconcile.acknowledgements import State, Unloadable
from service.reconcile.fetches import Artifacts, Fetches
from service.reconcile.repeat import Repeat
from service.reconcile.route_table import RouteTable

STEP_SECONDS = 1.0
FOLLOW_SECONDS = 0.05
"""How often a process whose requests wait looks whether another one has loaded their version."""
RETRY_SECONDS = 10.0
"""Between attempts to load a version that failed."""
LOAD_TIMEOUT = 60.0
"""Seconds a request waits for its version to be loaded."""
SLOT_SECONDS = 60.0
"""How long a wanted version waits for a slot: leases end meanwhile, a full engine stays full."""
COLD_LOADS = 4
"""Versions of one unit, beside those of its routes, that requests may wait for at once."""

log = structlog.get_logger("wardrobe.swap")


class Loader:
    """Owns what the engine holds."""

    def __init__(
        self,
        *,
        table: RouteTable,
        engine: Engine,
        residency: SharedResidency,
        artifacts: Artifacts,
        base_fingerprint: Digest,
        on_change: Callable[[], None],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change`: what the engine holds, or cannot hold, has changed. `clock`: the residency's
        own, for its times are compared.
        """
        self._table = table
        self._engine = engine
        self._residency = residency
        self._fetches = Fetches(
            artifacts,
            on_fetched=lambda: self.repeat.kick(),  # noqa: PLW0108 - made below
        )
        self._base_fingerprint = base_fingerprint
        self._on_change = on_change
        self._metrics = metrics
        self._clock = clock
        self._waiters: Counter[VersionId] = Counter()
        self._asked_at: dict[VersionId, float] = {}
        self._turns: dict[Unit, float] = {}
        self._slotless: dict[VersionId, float] = {}
        self._was_required: frozenset[VersionId] = frozenset()
        self._state: State = {}
        self._changed = asyncio.Condition()
        self._owner = False
        self.repeat = Repeat("loader", self.step, every=STEP_SECONDS, metrics=metrics)

    # -- what the rest of the service asks

    @property
    def owner(self) -> bool:
        """Whether this process loads for its engine."""
        return self._owner

    def failure(self, version: ServedVersion) -> Failure | None:
        """Why a version cannot be served by this replica."""
        if version.base_fingerprint != self._base_fingerprint:
            return Failure(reason=Reason.BASE_MISMATCH, at=0.0)
        return self._residency.failure(version.id)

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
            for version in self._table.live().values()
            if version.id not in self._engine.resident and self.failure(version) is None
        ]

    def state(self) -> State | None:
        """What is to be acknowledged: loaded, or the reason. None where another process loads."""
        return self._state if self._owner else None

    async def ensure(self, version: ServedVersion) -> None:
        """Waits until `version` answers; loads it on first use, once for all who wait.

        Raises Conflict (`base_mismatch`) when it never will, Unavailable (`version_unavailable`)
        when it cannot be loaded now, RateLimited when its unit waits for too many, and
        EngineUnavailable when it takes too long.
        """
        self._check(version)
        self._residency.note_use(version.id)
        if self._is_here(version):
            return
        with self._wait(version):
            self.repeat.kick()
            try:
                async with asyncio.timeout(LOAD_TIMEOUT), self._changed:
                    await self._changed.wait_for(lambda: self._is_settled(version))
            except TimeoutError:
                raise EngineUnavailable(
                    f"no slot became free for {version.name}", param="model"
                ) from None
        self._check(version)

    def _is_here(self, version: ServedVersion) -> bool:
        return version.id in self._engine.resident and self._residency.is_resident(version.id)

    def _is_settled(self, version: ServedVersion) -> bool:
        return self._is_here(version) or self._is_refused(version)

    def _check(self, version: ServedVersion) -> None:
        failure = self.failure(version)
        if failure is None:
            return
        if failure.reason is Reason.BASE_MISMATCH:
            raise Conflict(
                f"{version.name}: {told(failure.reason)}", param="model", code="base_mismatch"
            )
        if self._is_refused(version):
            raise Unavailable(
                f"{version.name} cannot be served now: {told(failure.reason)}",
                param="model",
                code="version_unavailable",
            )

    def _is_refused(self, version: ServedVersion) -> bool:
        """What a route needs is tried again without being asked for: nobody waits for that."""
        failure = self._residency.failure(version.id)
        if failure is None:
            return False
        return self._is_recent(failure) or version in self._required()

    def _is_recent(self, failure: Failure) -> bool:
        return self._clock() - failure.at < RETRY_SECONDS

    @contextmanager
    def _wait(self, version: ServedVersion) -> Iterator[None]:
        if not self._waiters[version.id]:
            self._check_cold(version)
            self._residency.ask(version.id)
        self._waiters[version.id] += 1
        try:
            yield
        finally:
            self._waiters[version.id] -= 1
            if not self._waiters[version.id]:
                del self._waiters[version.id]
                self._residency.withdraw(version.id)

    def _check_cold(self, version: ServedVersion) -> None:
        if version in self._required():
            return
        cold = sum(
            1
            for waited in self._waiters
            if (known := self._table.version(waited)) is not None and known.unit == version.unit
        )
        if cold >= COLD_LOADS:
            raise RateLimited(
                f"more than {COLD_LOADS} versions of this unit wait to be loaded", param="model"
            )

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
        self._give_fresh_chances()
        steps = self._plan()
        self._note_waiting(steps)
        for version_id in steps.unload:
            await self._unload(version_id)
        found = (self._table.version(version_id) for version_id in steps.load)
        fetched = await self._fetches.first([v for v in found if v is not None])
        if fetched is not None:
            await self._load(fetched)
        await self._announce()
        return fetched is not None

    def _give_fresh_chances(self) -> None:
        """A version that a command has just named is tried at once, however it failed before."""
        required = frozenset(version.id for version in self._required())
        for version_id in required - self._was_required:
            self._residency.forget_failure(version_id)
        self._was_required = required

    def _found(self) -> State:
        """Everything resident, and why what routes and rollouts need is not."""
        failed = {
            version.id: Unloadable(error=f"{version.name}: {told(failure.reason)}", at=failure.at)
            for version in self._required()
            if (failure := self.failure(version)) is not None
        }
        return {**failed, **dict.fromkeys(sorted(self._residency.resident()))}

    async def _announce(self) -> None:
        if self._owner:
            self._state = self._found()
        async with self._changed:
            self._changed.notify_all()
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
                log.warning("pin_failed", version=version.name, reason=_reason(error))

    async def _follow(self) -> bool:
        """Another process loads: this one makes its handlers know what is there."""
        await self._name_what_is_resident()
        await self._announce()
        if not self._waiters and not self.missing():
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
                log.warning("name_failed", version=version.name, reason=_reason(error))

    def _required(self) -> Sequence[ServedVersion]:
        return [*self._table.live().values(), *self._table.wanted_by_rollouts()]

    def _plan(self) -> planning.Plan:
        resident = self._residency.resident()
        return planning.plan(
            planning.desired(self._required_ids(resident), self._uses(resident), self._turns),
            servable=self._table.versions.keys(),
            loaded=resident,
            leased=self._residency.leased(resident),
            capacity=int(self._engine.limits["max_cpu_loras"]),
        )

    def _required_ids(self, resident: frozenset[VersionId]) -> Sequence[VersionId]:
        """Live versions, those that are here first: more of them than slots must not take turns."""
        live = [v for v in self._table.live().values() if self._is_loadable(v)]
        live.sort(key=lambda v: (v.id not in resident, -self._residency.last_use(v.id), v.id))
        targets = [v for v in self._table.wanted_by_rollouts() if self._is_loadable(v)]
        return [version.id for version in (*live, *targets)]

    def _is_loadable(self, version: ServedVersion) -> bool:
        failure = self.failure(version)
        if failure is None:
            return True
        return failure.reason is not Reason.BASE_MISMATCH and not self._is_recent(failure)

    def _uses(self, resident: frozenset[VersionId]) -> Sequence[planning.Use]:
        asked = self._residency.asked()
        now = self._clock()
        self._asked_at = {version: self._asked_at.get(version, now) for version in asked}
        found = (self._table.version(version) for version in resident | asked)
        return [
            planning.Use(
                version=version.id,
                unit=version.unit,
                resident=version.id in resident,
                last_use=self._residency.last_use(version.id),
                asked_at=self._asked_at.get(version.id),
            )
            for version in found
            if version is not None and (version.id in resident or self._is_loadable(version))
        ]

    def _note_waiting(self, steps: planning.Plan) -> None:
        """What finds no slot has failed, once that has lasted.

        A live version fails at once: live versions that are resident are never pushed out.
        """
        now = self._clock()
        required = [v for v in self._required() if v.id in steps.waiting]
        live = {v.id for v in self._table.live().values() if self._is_loadable(v)}
        for version in required:
            if version.id not in self._slotless:
                log.warning("version_waits_for_a_slot", version=version.name)
        self._slotless = {v.id: self._slotless.get(v.id, now) for v in required}
        full = len(live) > int(self._engine.limits["max_cpu_loras"])
        for version in required:
            at_once = full and version.id in live
            if at_once or now - self._slotless[version.id] >= SLOT_SECONDS:
                self._note_failure(version, Reason.NO_SLOT)

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
        self._turns[version.unit] = self._clock()
        try:
            fetched = self._fetches.take(version)
            self._residency.begin_load(version.id)
            await self._engine.load(version, fetched.path.result())
        except Exception as error:  # one version's edge: the others are still to be loaded
            self._note_failure(version, _reason(error), error)
            await self._fetches.release(version.id)
            return
        self._residency.note_resident(version.id)
        seconds = time.perf_counter() - fetched.began
        self._metrics.loads.labels(outcome="loaded").inc()
        self._metrics.swap_phase.labels(phase="load").observe(seconds)
        log.info("loaded", version=version.name, seconds=round(seconds, 4))

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


_REASON_OF: Sequence[tuple[type[BaseException], Reason]] = (
    (NotFound, Reason.ARTIFACT_MISSING),
    (EngineUnavailable, Reason.ENGINE_UNAVAILABLE),
    (Rejected, Reason.ENGINE_REFUSED),
    (StorageFull, Reason.STORE_UNAVAILABLE),
    (Unavailable, Reason.STORE_UNAVAILABLE),
    (TimeoutError, Reason.STORE_UNAVAILABLE),
)


def _reason(error: Exception) -> Reason:
    if isinstance(error, Rejected) and error.reason == "adapter_damaged":
        return Reason.ARTIFACT_DAMAGED
    found = (reason for kind, reason in _REASON_OF if isinstance(error, kind))
    return next(found, Reason.LOAD_FAILED)


_TOLD: Mapping[Reason, str] = {
    Reason.ARTIFACT_DAMAGED: "its artifact is damaged",
    Reason.ARTIFACT_MISSING: "its artifact is missing",
    Reason.STORE_UNAVAILABLE: "the artifact store does not answer",
    Reason.ENGINE_REFUSED: "the engine cannot load it",
    Reason.ENGINE_UNAVAILABLE: "the engine does not answer",
    Reason.NO_SLOT: "no slot became free: raise WARDROBE_MAX_CPU_LORAS or serve fewer aliases",
    Reason.BASE_MISMATCH: "it was trained on another base model than the one served; train it anew",
    Reason.LOAD_FAILED: "loading it failed",
}


def told(reason: Reason) -> str:
    """A reason for people; it names no path and nothing of another unit."""
    return _TOLD[reason]
