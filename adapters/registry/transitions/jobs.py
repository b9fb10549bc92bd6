"""Decides what a lease allows, and how a job moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adapters.domain.jobs import Job, JobError, JobStatus, Lease, StopRequest
from adapters.errors import IllegalTransition, LeaseLost


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


def accept(job: Job, error: JobError | None, *, at: float) -> Job:
    """`job` after validation: queued, or failed with `error`; a dry run has succeeded by it.

    Raises IllegalTransition.
    """
    if job.status is not JobStatus.VALIDATING_FILES:
        raise IllegalTransition(
            f"job {job.id} is {job.status}; its files were validated before", code="job_state"
        )
    if error is None and not job.dry_run:
        return job.to(JobStatus.QUEUED)
    if error is None:
        return job.to(JobStatus.SUCCEEDED, finished_at=at)
    return job.to(JobStatus.FAILED, error=error, finished_at=at)


def claimable(job: Job, now: float) -> bool:
    """Whether a trainer may take `job`: queued, or running under a lease that has ended."""
    if job.status is JobStatus.RUNNING:
        return job.lease is None or job.lease.until <= now
    return job.status is JobStatus.QUEUED


def claim(job: Job, *, owner: str, now: float, lease_seconds: float) -> Job:
    """`job` leased to `owner`. The fence is the number of the attempt: it only ever grows."""
    attempt = job.attempts + 1
    running = job if job.status is JobStatus.RUNNING else job.to(JobStatus.RUNNING)
    return replace(
        running,
        lease=Lease(owner=owner, fence=attempt, until=now + lease_seconds),
        attempts=attempt,
        started_at=job.started_at if job.started_at is not None else now,
    )


def prolong(job: Job, *, fence: int, now: float, lease_seconds: float) -> Job:
    """`job` with a later end of its lease. Raises LeaseLost."""
    lease = current_lease(job, fence)
    return replace(job, lease=replace(lease, until=max(lease.until, now + lease_seconds)))


def finish(job: Job, to: JobStatus, *, fence: int, at: float, results: Mapping[str, Any]) -> Job:
    """`job` at its end, or paused, with its `results`; the lease is given back.

    One that is being cancelled moves to its end only. Raises LeaseLost, IllegalTransition.
    """
    check = current_lease if to is JobStatus.CANCELLED else held
    check(job, fence)
    finished_at = at if to.finished else None
    return _unleased(job.to(to, **results, finished_at=finished_at))


def stop(job: Job, wish: StopRequest, *, at: float) -> Job:
    """`job` after a wish to cancel or pause it: at once, or recorded where a trainer runs it.

    Repeating a wish changes nothing. Raises IllegalTransition.
    """
    to = JobStatus.CANCELLED if wish is StopRequest.CANCEL else JobStatus.PAUSED
    if job.status is to:
        return job
    stopped = job.to(to)
    if job.status is not JobStatus.RUNNING or claimable(job, at):
        return _unleased(replace(stopped, finished_at=at if to.finished else None))
    if wish is StopRequest.PAUSE and job.stop_requested is StopRequest.CANCEL:
        raise IllegalTransition(f"job {job.id} is being cancelled", code="job_state")
    return replace(job, stop_requested=wish)


def resume(job: Job) -> Job:
    """A paused job in the queue again. Raises IllegalTransition."""
    if job.status is not JobStatus.PAUSED:
        raise IllegalTransition(
            f"job {job.id} is {job.status}; only a paused job can be resumed", code="job_state"
        )
    return job.to(JobStatus.QUEUED)


def is_cancelled(job: Job) -> bool:
    """Whether a cancel of `job` was acknowledged: no rollout that it asks for may go on."""
    return job.status is JobStatus.CANCELLED or job.stop_requested is StopRequest.CANCEL


def _unleased(job: Job) -> Job:
    """Who does not run holds no lease and has nothing to be stopped in."""
    return replace(job, lease=None, stop_requested=None, estimated_finish=None)
