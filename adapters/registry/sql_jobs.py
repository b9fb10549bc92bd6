"""Fine-tuning jobs in the database: the queue, the lease, and what jobs tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, Table, and_, exists, insert, or_, select, update

from adapters.domain.jobs import Job, JobCheckpoint, JobEvent, JobStatus, StopRequest
from adapters.domain.names import JobId, Unit
from adapters.domain.pages import Page
from adapters.domain.routes import RolloutState
from adapters.registry import rows, rules, schema
from adapters.registry.sql_rows import SqlPart, added_id, all_of, bump_revision, one, page


class SqlJobs(SqlPart):
    """The registry's methods about jobs."""

    def add_job(self, job: Job, *, idempotency_key: str | None = None) -> Job:
        """Stores `job`; a repeated (unit, idempotency_key) returns the job stored first."""
        with self._database.write() as connection:
            if idempotency_key is not None:
                first = _first_with(connection, job.unit, idempotency_key)
                if first is not None:
                    return first
            values = rows.job_values(job) | {"idempotency_key": idempotency_key}
            connection.execute(insert(schema.jobs).values(values))
            pairs = [
                {"job_id": job.id, "key": key, "value": value}
                for key, value in (job.metadata or {}).items()
            ]
            if pairs:
                connection.execute(insert(schema.job_metadata), pairs)
            return job

    def job(self, job_id: JobId, *, unit: Unit | None) -> Job:
        """Raises NotFound when unknown or another unit's."""
        with self._database.read() as connection:
            return _find(connection, job_id, unit)

    def jobs(
        self,
        *,
        unit: Unit | None,
        metadata: Mapping[str, str] | None,
        after: str | None,
        limit: int,
    ) -> Page[Job]:
        """Newest first, those with every given pair of metadata. Raises NotFound for `after`."""
        query = _jobs(unit).order_by(schema.jobs.c.seq.desc())
        for key, value in (metadata or {}).items():
            query = query.where(_tagged(key, value))
        with self._database.read() as connection:
            if after is not None:
                cursor = one(connection, _jobs(unit, id=after), "no such job to go on after")["seq"]
                query = query.where(schema.jobs.c.seq < cursor)
            return page(connection, query, rows.job_from, limit)

    def jobs_in(self, status: JobStatus) -> Sequence[Job]:
        """Oldest first."""
        jobs = schema.jobs
        query = select(jobs).where(jobs.c.status == status.value).order_by(jobs.c.seq)
        with self._database.read() as connection:
            return list(all_of(connection, query, rows.job_from))

    def move_job(self, job_id: JobId, to: JobStatus, *, fence: int | None, **changes: Any) -> Job:
        """`rules.moved` in a transaction. Raises IllegalTransition, LeaseLost, NotFound."""
        return self._change(job_id, lambda job: rules.moved(job, to, fence, changes))

    def update_job(self, job_id: JobId, *, fence: int, **changes: Any) -> Job:
        """Changes fields (not the status) under the lease. Raises LeaseLost, NotFound."""
        return self._change(job_id, lambda job: rules.changed(rules.held(job, fence), changes))

    def request_stop(self, job_id: JobId, stop: StopRequest, *, at: float) -> Job:
        """`rules.stopped` in a transaction. Raises IllegalTransition, NotFound."""
        with self._database.write() as connection:
            job = _write(connection, rules.stopped(_find(connection, job_id, None), stop, at=at))
            if rules.cancelled(job):
                _abandon_rollouts(connection, job_id, at=at)
            return job

    def resume_job(self, job_id: JobId) -> Job:
        """Paused → queued. Raises IllegalTransition, NotFound."""
        return self._change(job_id, rules.resumed)

    def claim_job(self, *, owner: str, now: float, lease_seconds: float) -> Job | None:
        """The oldest job that `rules.claimable` allows, leased to `owner`."""
        with self._database.write() as connection:
            row = connection.execute(_claimable(now)).mappings().first()
            if row is None:
                return None
            job = rules.claimed(
                rows.job_from(row), owner=owner, now=now, lease_seconds=lease_seconds
            )
            return _write(connection, job)

    def heartbeat(self, job_id: JobId, *, fence: int, now: float, lease_seconds: float) -> Job:
        """Prolongs the lease; the answer carries `stop_requested`. Raises LeaseLost, NotFound."""
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
        """The event with its id. Raises NotFound."""
        event = JobEvent(
            id=0,
            job_id=job_id,
            created_at=at,
            level=level,
            type=type,
            message=message,
            data=dict(data) if data is not None else None,
        )
        with self._database.write() as connection:
            _find(connection, job_id, None)
            number = added_id(connection, schema.job_events, rows.numbered_values(event))
            return replace(event, id=number)

    def events(self, job_id: JobId, *, after: str | None, limit: int) -> Page[JobEvent]:
        """Newest first; `after` is an event's id as text. Raises NotFound."""
        with self._database.read() as connection:
            query = _history(connection, schema.job_events, job_id, after)
            return page(connection, query, rows.event_from, limit)

    def add_checkpoint(
        self, job_id: JobId, *, at: float, step: int, metrics: Mapping[str, float]
    ) -> JobCheckpoint:
        """One per (job, step): a repeated step (a resumed run) gets the first. Raises NotFound."""
        table = schema.job_checkpoints
        same = select(table).where(table.c.job_id == job_id, table.c.step == step)
        point = JobCheckpoint(id=0, job_id=job_id, created_at=at, step=step, metrics=dict(metrics))
        with self._database.write() as connection:
            _find(connection, job_id, None)
            first = connection.execute(same).mappings().first()
            if first is not None:
                return rows.checkpoint_from(first)
            return replace(point, id=added_id(connection, table, rows.numbered_values(point)))

    def checkpoints(self, job_id: JobId, *, after: str | None, limit: int) -> Page[JobCheckpoint]:
        """Newest first; `after` is a checkpoint's id as text. Raises NotFound."""
        with self._database.read() as connection:
            query = _history(connection, schema.job_checkpoints, job_id, after)
            return page(connection, query, rows.checkpoint_from, limit)

    def _change(self, job_id: JobId, change: Callable[[Job], Job]) -> Job:
        with self._database.write() as connection:
            return _write(connection, change(_find(connection, job_id, None)))


def held_job(connection: Connection, job_id: JobId, fence: int | None) -> Job:
    """`rules.held` of the stored job. Raises NotFound, LeaseLost."""
    return rules.held(_find(connection, job_id, None), fence)


def job_called(connection: Connection, actor: str) -> Job | None:
    """The job that acts under this name; None where it is a key's."""
    row = connection.execute(_jobs(None, id=actor)).mappings().one_or_none()
    return rows.job_from(row) if row else None


def _abandon_rollouts(connection: Connection, job_id: JobId, *, at: float) -> None:
    table = schema.rollouts
    loading = select(table).where(
        table.c.actor == job_id, table.c.state == RolloutState.LOADING.value
    )
    for rollout in all_of(connection, loading, rows.rollout_from):
        ended = rules.abandoned(rollout, rules.ASKER_CANCELLED, at=at)
        values = rows.rollout_values(ended)
        connection.execute(update(table).where(table.c.id == rollout.id).values(values))
        bump_revision(connection)


def _find(connection: Connection, job_id: JobId, unit: Unit | None) -> Job:
    return rows.job_from(one(connection, _jobs(unit, id=job_id), "no such job"))


def _write(connection: Connection, job: Job) -> Job:
    jobs = schema.jobs
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(rows.job_values(job)))
    return job


def _first_with(connection: Connection, unit: Unit, idempotency_key: str) -> Job | None:
    query = _jobs(unit).where(schema.jobs.c.idempotency_key == idempotency_key)
    row = connection.execute(query).mappings().one_or_none()
    return rows.job_from(row) if row else None


def _jobs(unit: Unit | None, *, id: str | None = None) -> Select[Any]:
    query = select(schema.jobs)
    if unit is not None:
        query = query.where(schema.jobs.c.unit == unit)
    return query if id is None else query.where(schema.jobs.c.id == id)


def _tagged(key: str, value: str) -> Any:
    pairs = schema.job_metadata.c
    return exists().where(pairs.job_id == schema.jobs.c.id, pairs.key == key, pairs.value == value)


def _claimable(now: float) -> Select[Any]:
    """`rules.claimable`, in the database's words; the contract suite holds the two together."""
    jobs = schema.jobs.c
    queued = jobs.status == JobStatus.QUEUED.value
    deserted = and_(
        jobs.status == JobStatus.RUNNING.value,
        or_(jobs.lease_until.is_(None), jobs.lease_until <= now),
    )
    query = select(schema.jobs).where(or_(queued, deserted)).order_by(jobs.seq).limit(1)
    return query.with_for_update(skip_locked=True)


def _history(connection: Connection, table: Table, job_id: JobId, after: str | None) -> Select[Any]:
    _find(connection, job_id, None)
    query = select(table).where(table.c.job_id == job_id).order_by(table.c.id.desc())
    if after is None:
        return query
    return query.where(table.c.id < rules.cursor_number(after))
