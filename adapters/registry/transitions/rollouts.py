"""Decides how a rollout begins, and how far acknowledgements and observations let it move."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.domain.jobs import Job
from adapters.domain.names import Digest, VersionId
from adapters.domain.routes import Action, Rollout, RolloutState, Route
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict
from adapters.registry.ports.replicas import REPORTING_SECONDS, Replica
from adapters.registry.transitions.jobs import is_cancelled

ASKER_CANCELLED = "the job that asked for it was cancelled"
ALIAS_MOVED = "the alias was moved to another unit"
TARGET_RETIRED = "the version was retired"
ABORTED = "it was aborted"
OUT_OF_TURN = "another command came first"
CANARY_ENDED = "the canary was rolled back"
BASE_NOT_SERVED = "no replica serves the base model that the version was made for"
"""Why a rollout fails without a replica's error."""

BASE_PATIENCE_SECONDS = 60.0
"""How long a rollout waits for a replica of its base while only replicas of others report."""
LEASE_MARGIN_SECONDS = 2.0
"""Added to a serving lease before it counts as over: the replica's clock may run slower."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """What decides whether one API process may still answer by an old route."""

    seconds_silent: float
    observed: int | None
    lease_left: float | None
    """Seconds until its serving lease ends, negative after; None: it never had one."""


@dataclass(frozen=True, kw_only=True)
class ReplicaStatus:
    """A replica and its processes, at one moment."""

    replica: Replica
    processes: tuple[Process, ...]

    def holds_up(self, revision: int) -> bool:
        """Whether one of its processes may still answer by what was there before `revision`."""
        return any(
            process.observed is not None
            and process.observed < revision
            and not self._has_stopped(process)
            for process in self.processes
        )

    def _has_stopped(self, process: Process) -> bool:
        """Whether the process admits nothing any more, by its own promise.

        A `keep` replica makes none: silence is not an observation.
        """
        if self.replica.on_loss == "keep":
            return False
        if process.lease_left is None:
            return process.seconds_silent > REPORTING_SECONDS + LEASE_MARGIN_SECONDS
        return process.lease_left < -LEASE_MARGIN_SECONDS


def check_asker(job: Job | None) -> None:
    """Raises Conflict when the job that asks for a rollout has been cancelled; None is a person."""
    if job is not None and is_cancelled(job):
        raise Conflict(f"job {job.id} has been cancelled", code="job_state")


def check_not_loading(loading: Rollout | None) -> None:
    """Raises Conflict while another rollout of the alias is on its way."""
    if loading is not None:
        raise Conflict(
            f"a {loading.action} of {loading.alias} is under way; wait for its end",
            code="rollout_in_progress",
        )


def check_not_rolled_back(version: Version) -> None:
    """Raises Conflict for a version that a rollback took out of service."""
    if version.rolled_back_at is not None:
        raise Conflict(
            f"{version.name} was rolled back from; name the generation you see to promote it again",
            code="version_rolled_back",
        )


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a command wants of a route."""

    action: Action
    target: VersionId
    actor: str
    weight: float | None = None
    reason: str | None = None

    def ends_canary_of(self, route: Route) -> bool:
        """Whether it takes the canary out, and nothing comes in its place."""
        is_back = self.action is Action.ROLL_BACK and self.target == route.stable
        return route.canary is not None and (is_back or self.action is Action.ABORT)

    def needs_load(self, route: Route) -> bool:
        """Whether replicas must have its target first; what ends a canary waits for nobody."""
        return self.action.loads and not self.ends_canary_of(route)


def begin(route: Route, change: Change, *, at: float) -> Rollout:
    """A rollout that starts from `route` as it is; its id is still 0."""
    replaced = route.stable
    if route.canary is not None and change.ends_canary_of(route):
        replaced = route.canary.version
    return Rollout(
        id=0,
        alias=route.alias,
        unit=route.unit,
        action=change.action,
        target=change.target,
        replaced=replaced,
        generation=route.generation,
        state=RolloutState.LOADING,
        actor=change.actor,
        created_at=at,
        weight=change.weight,
        reason=change.reason,
    )


def fail(rollout: Rollout, error: str, *, at: float) -> Rollout:
    """A loading rollout that ends without effect."""
    return replace(rollout, state=RolloutState.FAILED, finished_at=at, error=error)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a rollout may do next; `error` where it fails."""

    to: RolloutState
    error: str | None = None


def next_step(
    rollout: Rollout,
    target: Version,
    bases: Collection[Digest],
    statuses: Sequence[ReplicaStatus],
    *,
    now: float,
) -> Step | None:
    """How `rollout` moves, or None while it waits.

    `bases` are those of the target and of the version it replaces: a replica of the target's base
    loads it, and a replica of either may answer by the route as it was.
    """
    if rollout.state is RolloutState.LOADING:
        return _after_loading(rollout, target, statuses, now=now)
    if rollout.state is RolloutState.FLIPPED and not not_observed(rollout, bases, statuses):
        return Step(to=RolloutState.COMPLETE)
    return None


def _after_loading(
    rollout: Rollout, target: Version, statuses: Sequence[ReplicaStatus], *, now: float
) -> Step | None:
    reporting = [one.replica for one in statuses if one.replica.reporting]
    concerned = [r for r in reporting if r.base_fingerprint == target.base_fingerprint]
    errors = [r.failed[target.id] for r in concerned if target.id in r.failed]
    if errors:
        return Step(to=RolloutState.FAILED, error=errors[0])
    if concerned:
        loaded = all(target.id in replica.loaded for replica in concerned)
        is_done = rollout.action is Action.WARM
        after = RolloutState.COMPLETE if is_done else RolloutState.FLIPPED
        return Step(to=after) if loaded else None
    if reporting and now - rollout.created_at > BASE_PATIENCE_SECONDS:
        return Step(to=RolloutState.FAILED, error=BASE_NOT_SERVED)
    return None


def not_loaded(target: Version, statuses: Sequence[ReplicaStatus]) -> list[str]:
    """Ids of reporting replicas of the target's base that do not hold it."""
    return sorted(
        one.replica.id
        for one in statuses
        if one.replica.reporting
        and one.replica.base_fingerprint == target.base_fingerprint
        and target.id not in one.replica.loaded
    )


def not_observed(
    rollout: Rollout, bases: Collection[Digest], statuses: Sequence[ReplicaStatus]
) -> list[str]:
    """Ids of replicas that may still answer by the route as it was before the flip.

    A process that has observed nothing admits nothing before it has observed the newest revision,
    so it is not waited for.
    """
    revision = rollout.flip_revision or 0
    return sorted(
        one.replica.id
        for one in statuses
        if one.replica.base_fingerprint in bases and one.holds_up(revision)
    )


@dataclass(frozen=True, kw_only=True)
class Flip:
    """What moving a route changes."""

    route: Route
    rollout: Rollout
    versions: tuple[Version, ...]


def flip(
    rollout: Rollout,
    route: Route,
    *,
    versions: Mapping[VersionId, Version],
    elsewhere: Collection[VersionId],
    revision: int,
    at: float,
) -> Flip:
    """The route moved on; what answers by it is live, what does so no more is retired.

    `versions` are those that answer before and after, `elsewhere` those that another route serves.
    What a rollback replaces is marked, wherever else it is served.
    """
    moved = route.flipped_by(rollout, at=at)
    after = {id: versions[id].to(VersionState.LIVE) for id in moved.answering}
    for id in route.answering:
        if id not in after and id not in elsewhere:
            after[id] = versions[id].to(VersionState.RETIRED)
    if rollout.action is Action.ROLL_BACK:
        for id in _rolled_back_from(rollout, route):
            version = after.get(id, versions[id])
            after[id] = replace(version, rolled_back_at=version.rolled_back_at or at)
    return Flip(
        route=moved,
        rollout=replace(rollout, state=RolloutState.FLIPPED, flipped_at=at, flip_revision=revision),
        versions=tuple(after.values()),
    )


def _rolled_back_from(rollout: Rollout, route: Route) -> set[VersionId]:
    """What answers and is to answer no more; of an alias that was moved, what it came with."""
    return set(route.answering) - {rollout.target}
