"""What the registry's commands do, as pure functions of domain values.

Both implementations read values, ask here what becomes of them, and write the answer: nothing
about leases, rollouts or verdicts is decided twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from adapters.domain.gates import GateResult
from adapters.domain.jobs import Job, JobStatus, Lease, StopRequest
from adapters.domain.names import Alias, JobId, Unit, VersionId
from adapters.domain.routes import (
    Rollout,
    RolloutState,
    Route,
    check_generation,
    check_promotable,
)
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, IllegalTransition, LeaseLost, NotFound, VersionConflict
from adapters.registry.port import NewVersion

_CHANGEABLE = frozenset(field.name for field in fields(Job)) - {
    "id",
    "unit",
    "status",
    "lease",
    "attempts",
    "stop_requested",
    "created_at",
    "metadata",
}

# -- jobs


def current_lease(job: Job, fence: int | None) -> Lease:
    """The lease of `job`, when `fence` is its own; it may be asked to stop. Raises LeaseLost."""
    if job.status is not JobStatus.RUNNING or job.lease is None or job.lease.fence != fence:
        raise LeaseLost(f"job {job.id} is not leased under fence {fence}")
    return job.lease


def held(job: Job, fence: int | None) -> Job:
    """`job`, when `fence` is its current lease's and still lets work count. Raises LeaseLost.

    An acknowledged cancel ends what the trainer may do: heartbeats go on, results do not.
    """
    current_lease(job, fence)
    if job.stop_requested is StopRequest.CANCEL:
        raise LeaseLost(f"job {job.id} is being cancelled; nothing more of it counts")
    return job


def changed(job: Job, changes: Mapping[str, Any]) -> Job:
    """`job` with other fields; its identity, status and lease are not for the asking."""
    forbidden = sorted(changes.keys() - _CHANGEABLE)
    if forbidden:
        raise TypeError(f"not changeable fields of a job: {', '.join(forbidden)}")
    return replace(job, **changes)


def moved(job: Job, to: JobStatus, fence: int | None, changes: Mapping[str, Any]) -> Job:
    """`job` in another status. A leased job moves only under its own fence, and one that is being
    cancelled only to its end.

    Raises LeaseLost or IllegalTransition.
    """
    check = current_lease if to is JobStatus.CANCELLED else held
    if fence is not None:
        check(job, fence)
    after = job.to(to)
    if job.lease is not None:
        check(job, fence)
    return _unleased(changed(after, changes))


def claimable(job: Job, now: float) -> bool:
    """Whether a trainer may take `job`: queued, or running under a lease that has ended."""
    if job.status is JobStatus.RUNNING:
        return job.lease is None or job.lease.until <= now
    return job.status is JobStatus.QUEUED


def claimed(job: Job, *, owner: str, now: float, lease_seconds: float) -> Job:
    """`job` leased to `owner`. The fence is the number of the attempt: it only ever grows."""
    attempt = job.attempts + 1
    running = job if job.status is JobStatus.RUNNING else job.to(JobStatus.RUNNING)
    return replace(
        running,
        lease=Lease(owner=owner, fence=attempt, until=now + lease_seconds),
        attempts=attempt,
        started_at=job.started_at if job.started_at is not None else now,
    )


def prolonged(job: Job, *, fence: int, now: float, lease_seconds: float) -> Job:
    """`job` with a later end of its lease. Raises LeaseLost."""
    lease = current_lease(job, fence)
    return replace(job, lease=replace(lease, until=max(lease.until, now + lease_seconds)))


def stopped(job: Job, stop: StopRequest, *, at: float) -> Job:
    """`job` after a wish to cancel or pause it: at once, or recorded where a trainer runs it.

    Raises IllegalTransition.
    """
    to = JobStatus.CANCELLED if stop is StopRequest.CANCEL else JobStatus.PAUSED
    stopped_job = job.to(to)
    if job.status is not JobStatus.RUNNING or claimable(job, at):
        finished_at = at if to.finished else None
        return _unleased(replace(stopped_job, finished_at=finished_at))
    if stop is StopRequest.PAUSE and job.stop_requested is StopRequest.CANCEL:
        raise IllegalTransition(f"job {job.id} is being cancelled", code="job_state")
    return replace(job, stop_requested=stop)


def resumed(job: Job) -> Job:
    """A paused job in the queue again. Raises IllegalTransition."""
    if job.status is not JobStatus.PAUSED:
        raise IllegalTransition(
            f"job {job.id} is {job.status}; only a paused job can be resumed", code="job_state"
        )
    return job.to(JobStatus.QUEUED)


def _unleased(job: Job) -> Job:
    """Who does not run holds no lease and has nothing to be stopped in."""
    if job.status is JobStatus.RUNNING:
        return job
    return replace(job, lease=None, stop_requested=None, estimated_finish=None)


# -- versions


def numbered(
    new: NewVersion, *, newest: Version | None, job_id: JobId | None, at: float
) -> Version:
    """`new` as the candidate that follows `newest` of its adapter; its id is still 0.

    Raises Conflict when the adapter belongs to another unit.
    """
    if newest is not None and newest.unit != new.unit:
        raise Conflict(
            f"the adapter name {new.adapter} belongs to another unit", code="foreign_adapter"
        )
    return Version(
        id=VersionId(0),
        adapter=new.adapter,
        number=newest.number + 1 if newest else 1,
        unit=new.unit,
        state=VersionState.CANDIDATE,
        digest=new.digest,
        base_fingerprint=new.base_fingerprint,
        rank=new.rank,
        size_bytes=new.size_bytes,
        job_id=job_id,
        created_at=at,
        evidence=dict(new.evidence),
    )


def judging_job(version: Version) -> JobId:
    """The job whose holder may judge `version`. Raises LeaseLost where no job has made it."""
    if version.job_id is None:
        raise LeaseLost(f"no job has made {version.name}, so nobody holds a lease to judge it")
    return version.job_id


def judged(version: Version, gates: Sequence[GateResult], evidence: Mapping[str, Any]) -> Version:
    """`version` with its verdicts, which are final; rejected when one of them is a no.

    Raises IllegalTransition (`already_judged`).
    """
    if version.gates:
        raise IllegalTransition(
            f"{version.name} has its verdicts already, and they are final", code="already_judged"
        )
    kept = replace(version, gates=tuple(gates), evidence={**(version.evidence or {}), **evidence})
    failed = any(not gate.passed for gate in gates)
    return kept.to(VersionState.REJECTED) if failed else kept


# -- routes

ASKER_CANCELLED = "the job that asked for it was cancelled"
"""Why such a rollout fails."""


@dataclass(frozen=True, kw_only=True)
class Flip:
    """What completing a rollout changes."""

    route: Route
    rollout: Rollout
    versions: tuple[Version, ...]


def owned_route(route: Route | None, alias: Alias, unit: Unit) -> Route:
    """The route of `alias`, or an empty one. Raises NotFound when it is another unit's."""
    if route is None:
        return Route(alias=alias, unit=unit)
    if route.unit != unit:
        raise NotFound(f"no alias {alias}", param="alias")
    return route


def asked(route: Route, version_id: VersionId, *, action: str, actor: str, at: float) -> Rollout:
    """A rollout that starts from `route` as it is; its id is still 0."""
    return Rollout(
        id=0,
        alias=route.alias,
        action=action,
        target=version_id,
        generation=route.generation,
        state=RolloutState.LOADING,
        actor=actor,
        created_at=at,
    )


def begun(
    asked: Rollout,
    route: Route,
    version: Version,
    *,
    loading: Rollout | None,
    expected_generation: int | None,
) -> Rollout:
    """The rollout that was `asked` for; complete at once where `version` serves already.

    Raises VersionConflict; Conflict when another is `loading` or `version` may not be served.
    """
    check_generation(route, expected_generation)
    if loading is not None:
        raise Conflict(
            f"a {loading.action} of {route.alias} is under way; wait for its end",
            code="rollout_in_progress",
        )
    if route.stable == version.id:
        return replace(asked, state=RolloutState.COMPLETE, finished_at=asked.created_at)
    check_promotable(route, version)
    return asked


def cancelled(job: Job) -> bool:
    """Whether a cancel of `job` was acknowledged: no rollout that it asks for may go on."""
    return job.status is JobStatus.CANCELLED or job.stop_requested is StopRequest.CANCEL


def check_asker(job: Job | None) -> None:
    """Raises Conflict when the job that asks for a rollout has been cancelled; None is a person."""
    if job is not None and cancelled(job):
        raise Conflict(f"job {job.id} has been cancelled", code="job_state")


def flipped(
    rollout: Rollout,
    route: Route,
    *,
    target: Version,
    replaced: Version | None,
    others: Iterable[Route],
    at: float,
) -> Flip:
    """The end of a rollout: route moved on, `target` live, `replaced` retired.

    A version that one of the `others` serves stays live.

    Raises IllegalTransition when the rollout has failed or `target` was rejected meanwhile,
    VersionConflict when the route is no longer where the rollout began.
    """
    if rollout.state is not RolloutState.LOADING:
        raise IllegalTransition(f"rollout {rollout.id} has {rollout.state}")
    if route.generation != rollout.generation:
        raise VersionConflict(
            f"route {route.alias} is at generation {route.generation}, not {rollout.generation}"
        )
    versions = [target.to(VersionState.LIVE)]
    if replaced is not None and not _served(others, replaced, besides=route):
        versions.append(replaced.to(VersionState.RETIRED))
    return Flip(
        route=route.flipped_to(target.id, at=at),
        rollout=replace(rollout, state=RolloutState.COMPLETE, finished_at=at),
        versions=tuple(versions),
    )


def abandoned(rollout: Rollout, error: str, *, at: float) -> Rollout:
    """A loading rollout that ends without effect; one that failed before stays as it was.

    Raises IllegalTransition when it is complete.
    """
    if rollout.state is RolloutState.COMPLETE:
        raise IllegalTransition(f"rollout {rollout.id} is complete; it cannot fail any more")
    if rollout.state is RolloutState.FAILED:
        return rollout
    return replace(rollout, state=RolloutState.FAILED, finished_at=at, error=error)


def cursor_number(after: str) -> int:
    """A numeric cursor. Raises NotFound for text that no id could be."""
    if not (after.isascii() and after.isdigit() and len(after) < 19):
        raise NotFound("nothing to go on after", param="after")
    return int(after)


def _served(routes: Iterable[Route], version: Version, *, besides: Route) -> bool:
    return any(route.stable == version.id for route in routes if route.alias != besides.alias)
