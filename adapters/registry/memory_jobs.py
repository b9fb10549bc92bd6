"""Fine-tuning jobs in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapters.domain.jobs import Job, JobCheckpoint, JobEvent, JobStatus, StopRequest
from adapters.domain.names import JobId, Unit
from adapters.domain.pages import Page
from adapters.domain.routes import RolloutState
from adapters.errors import Conflict, NotFound
from adapters.registry import rules
from adapters.registry.memory_tables import MemoryPart, Tables, following, kept, page


class MemoryJobs(MemoryPart):
    """The registry's methods about jobs; see `adapters.registry.port`."""

    def add_job(self, job: Job, *, idempotency_key: str | None = None) -> Job:
        with self._transaction() as tables:
            if idempotency_key is not None:
                first = tables.job_by_idempotency_key.get((job.unit, idempotency_key))
                if first is not None:
                    return kept(tables.jobs[first])
            if job.id in tables.jobs:
                raise Conflict("another change came first", code="already_exists")
            tables.jobs[job.id] = kept(job)
            if idempotency_key is not None:
                tables.job_by_idempotency_key[job.unit, idempotency_key] = job.id
            return job

    def job(self, job_id: JobId, *, unit: Unit | None) -> Job:
        with self._transaction() as tables:
            return kept(find_job(tables, job_id, unit))

    def jobs(
        self,
        *,
        unit: Unit | None,
        metadata: Mapping[str, str] | None,
        after: str | None,
        limit: int,
    ) -> Page[Job]:
        wanted = (metadata or {}).items()
        with self._transaction() as tables:
            mine = [job for job in reversed(tables.jobs.values()) if unit in (None, job.unit)]
            rest = following(mine, lambda job: job.id == after, after)
            return page((job for job in rest if wanted <= (job.metadata or {}).items()), limit)

    def jobs_in(self, status: JobStatus) -> Sequence[Job]:
        with self._transaction() as tables:
            return kept([job for job in tables.jobs.values() if job.status is status])

    def move_job(self, job_id: JobId, to: JobStatus, *, fence: int | None, **changes: Any) -> Job:
        return self._change(job_id, lambda job: rules.moved(job, to, fence, changes))

    def update_job(self, job_id: JobId, *, fence: int, **changes: Any) -> Job:
        return self._change(job_id, lambda job: rules.changed(rules.held(job, fence), changes))

    def request_stop(self, job_id: JobId, stop: StopRequest, *, at: float) -> Job:
        with self._transaction() as tables:
            job = rules.stopped(find_job(tables, job_id), stop, at=at)
            tables.jobs[job_id] = kept(job)
            if rules.cancelled(job):
                _abandon_rollouts(tables, job_id, at=at)
            return job

    def resume_job(self, job_id: JobId) -> Job:
        return self._change(job_id, rules.resumed)

    def claim_job(self, *, owner: str, now: float, lease_seconds: float) -> Job | None:
        with self._transaction() as tables:
            for job in tables.jobs.values():
                if rules.claimable(job, now):
                    claimed = rules.claimed(job, owner=owner, now=now, lease_seconds=lease_seconds)
                    tables.jobs[job.id] = claimed
                    return kept(claimed)
            return None

    def heartbeat(self, job_id: JobId, *, fence: int, now: float, lease_seconds: float) -> Job:
        return self._change(
            job_id,
            lambda job: rules.prolonged(job, fence=fence, now=now, lease_seconds=lease_seconds),
        )

    def add_event(
        self,
        job_id: JobId,
        *,
        at: float,
        level: str,
        type: str,
        message: str,
        data: Mapping[str, Any] | None = None,
    ) -> JobEvent:
        with self._transaction() as tables:
            find_job(tables, job_id)
            event = JobEvent(
                id=len(tables.events) + 1,
                job_id=job_id,
                created_at=at,
                level=level,
                type=type,
                message=message,
                data=dict(data) if data is not None else None,
            )
            tables.events.append(kept(event))
            return event

    def events(self, job_id: JobId, *, after: str | None, limit: int) -> Page[JobEvent]:
        with self._transaction() as tables:
            find_job(tables, job_id)
            before = rules.cursor_number(after) if after is not None else len(tables.events) + 1
            mine = (event for event in reversed(tables.events) if event.job_id == job_id)
            return page((event for event in mine if event.id < before), limit)

    def add_checkpoint(
        self, job_id: JobId, *, at: float, step: int, metrics: Mapping[str, float]
    ) -> JobCheckpoint:
        with self._transaction() as tables:
            find_job(tables, job_id)
            for first in tables.checkpoints:
                if (first.job_id, first.step) == (job_id, step):
                    return kept(first)
            checkpoint = JobCheckpoint(
                id=len(tables.checkpoints) + 1,
                job_id=job_id,
                created_at=at,
                step=step,
                metrics=dict(metrics),
            )
            tables.checkpoints.append(kept(checkpoint))
            return checkpoint

    def checkpoints(self, job_id: JobId, *, after: str | None, limit: int) -> Page[JobCheckpoint]:
        with self._transaction() as tables:
            find_job(tables, job_id)
            newest = len(tables.checkpoints) + 1
            before = rules.cursor_number(after) if after is not None else newest
            mine = (point for point in reversed(tables.checkpoints) if point.job_id == job_id)
            return page((point for point in mine if point.id < before), limit)

    def _change(self, job_id: JobId, change: Callable[[Job], Job]) -> Job:
        with self._transaction() as tables:
            after = change(find_job(tables, job_id))
            tables.jobs[job_id] = kept(after)
            return after


def _abandon_rollouts(tables: Tables, job_id: JobId, *, at: float) -> None:
    for rollout in tables.rollouts.values():
        if rollout.actor == job_id and rollout.state is RolloutState.LOADING:
            tables.rollouts[rollout.id] = rules.abandoned(rollout, rules.ASKER_CANCELLED, at=at)
            tables.revision += 1


def find_job(tables: Tables, job_id: JobId, unit: Unit | None = None) -> Job:
    """Raises NotFound when unknown or another unit's."""
    job = tables.jobs.get(job_id)
    if job is None or unit not in (None, job.unit):
        raise NotFound("no such job")
    return job
