"""Jobs in the database, as trainers see them: the queue, the lease, progress and the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select, update

from adapters.domain.jobs import Job, JobCheckpoint, JobError, JobEvent, JobStatus
from adapters.domain.names import FileId, JobId
from adapters.domain.principals import SYSTEM, Principal
from adapters.errors import NotFound
from adapters.registry.ports.jobs import Progress
from adapters.registry.sql import rows, schema
from adapters.registry.sql.job_rows import MISSING, change_job, find_job, held_job
from adapters.registry.sql.queries import SqlPort, add_missing, add_numbered, all_of, first_of
from adapters.registry.transitions import jobs as transitions


class SqlTrainerJobs(SqlPort):
    """Implements the trainer's half of `Jobs`."""

    def in_status(self, *statuses: JobStatus) -> Sequence[Job]:
        """Oldest first."""
        jobs = schema.jobs
        wanted = [status.value for status in statuses]
        query = select(jobs).where(jobs.c.status.in_(wanted)).order_by(jobs.c.seq)
        with self._database.read() as connection:
            return all_of(connection, query, rows.job_from)

    def accept(self, job_id: JobId, *, error: JobError | None) -> Job:
        """The end of validation: queued, or failed with `error`. Raises IllegalTransition."""
        return self._change(
            job_id, lambda job, now: transitions.accept(job, error, at=now), by=SYSTEM
        )

    def claim(self, *, owner: str, lease_seconds: float) -> Job | None:
        """The oldest job of the unit whose last claim is longest ago, now leased to `owner`."""
        with self._database.read() as connection:
            waiting = select(exists().where(_claimable(self._database.now(connection))))
            if not connection.execute(waiting).scalar_one():
                return None
        with self._database.write() as connection:
            turn = _next_turn(connection)
            now = self._database.now(connection)
            job = first_of(connection, _next_in_turn(now), rows.job_from)
            if job is None:
                return None
            claimed = transitions.claim(job, owner=owner, now=now, lease_seconds=lease_seconds)
            _write_claim(connection, claimed, turn)
            return claimed

    def heartbeat(self, job_id: JobId, *, fence: int, lease_seconds: float) -> Job:
        """Prolongs the lease; the answer carries `stop_requested`. Raises LeaseLost."""
        return self._change(
            job_id,
            lambda job, now: transitions.prolong(
                job, fence=fence, now=now, lease_seconds=lease_seconds
            ),
        )

    def resolve(self, job_id: JobId, *, fence: int, recipe: Mapping[str, Any]) -> Job:
        """Records the recipe a run uses. Raises LeaseLost, also once a cancel was asked for."""
        return self._change(
            job_id,
            lambda job, _: replace(transitions.held(job, fence), resolved=dict(recipe)),
        )

    def report_progress(self, job_id: JobId, progress: Progress, *, fence: int) -> None:
        """Estimated finish, a metrics event and a checkpoint, whole. Raises LeaseLost."""
        with self._database.write() as connection:
            job = held_job(connection, job_id, fence)
            now = self._database.now(connection)
            finish = now + progress.seconds_left
            later = replace(job, estimated_finish=finish)
            change_job(connection, job, later, by=job.principal, at=now)
            event = JobEvent(
                id=0,
                job_id=job_id,
                created_at=now,
                level="info",
                type="metrics",
                message=progress.message,
                data=dict(progress.data),
            )
            add_numbered(connection, schema.job_events, rows.numbered_values(event))
            if progress.checkpoint is not None:
                checkpoint = JobCheckpoint(
                    id=0,
                    job_id=job_id,
                    created_at=now,
                    step=int(progress.data["step"]),
                    metrics=dict(progress.checkpoint),
                )
                # a resumed run comes to a step again: the first checkpoint stays
                add_missing(connection, schema.job_checkpoints, rows.numbered_values(checkpoint))

    def trained(self, job_id: JobId, *, fence: int, tokens: int) -> Job:
        """Training is over, evaluation follows. Raises LeaseLost."""
        return self._change(
            job_id,
            lambda job, _: replace(transitions.held(job, fence), trained_tokens=tokens),
        )

    def finish(
        self,
        job_id: JobId,
        status: JobStatus,
        *,
        fence: int,
        error: JobError | None = None,
        fine_tuned_model: str | None = None,
        result_files: Sequence[FileId] = (),
    ) -> Job:
        """Succeeded, failed, cancelled or paused; gives the lease back.

        Raises LeaseLost when `fence` is not current, or a cancel was asked for and this is not it.
        """
        results: dict[str, Any] = {"error": error}
        if fine_tuned_model is not None:
            results["fine_tuned_model"] = fine_tuned_model
        if result_files:
            results["result_files"] = tuple(result_files)
        return self._change(
            job_id,
            lambda job, now: transitions.finish(job, status, fence=fence, at=now, results=results),
        )

    def say(
        self,
        job_id: JobId,
        message: str,
        *,
        level: str = "info",
        type: str = "message",
        data: Mapping[str, Any] | None = None,
    ) -> JobEvent:
        """An event. Not fenced: it is for people, and decides nothing. Raises NotFound."""
        with self._database.write() as connection:
            event = JobEvent(
                id=0,
                job_id=job_id,
                created_at=self._database.now(connection),
                level=level,
                type=type,
                message=message,
                data=dict(data) if data is not None else None,
            )
            known = select(schema.jobs.c.id).where(schema.jobs.c.id == job_id)
            if connection.execute(known).first() is None:
                raise NotFound(MISSING)
            number = add_numbered(connection, schema.job_events, rows.numbered_values(event))
            return replace(event, id=number)

    def _change(
        self, job_id: JobId, change: Callable[[Job, float], Job], *, by: Principal | None = None
    ) -> Job:
        """Finds, changes and writes the job; the time is told once its row is locked.

        `by` is the job itself where nobody else is named.
        """
        with self._database.write() as connection:
            job, now = find_job(connection, job_id), self._database.now(connection)
            return change_job(connection, job, change(job, now), by=by or job.principal, at=now)


def _next_turn(connection: Connection) -> int:
    """The number of this claim; other claims wait for its end, so that turns are exact."""
    claims = schema.claims
    return int(connection.execute(select(claims.c.value).with_for_update()).scalar_one()) + 1


def _write_claim(connection: Connection, job: Job, turn: int) -> None:
    jobs = schema.jobs
    values = rows.job_values(job) | {"turn": turn}
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(values))
    connection.execute(update(schema.claims).values(value=turn))


def _claimable(now: float) -> ColumnElement[bool]:
    """`transitions.claimable`, in the database's words; the contract suite holds them together."""
    jobs = schema.jobs.c
    queued = jobs.status == JobStatus.QUEUED.value
    ended = or_(jobs.lease_until.is_(None), jobs.lease_until <= now)
    return or_(queued, and_(jobs.status == JobStatus.RUNNING.value, ended))


def _next_in_turn(now: float) -> Select[Any]:
    """The job to claim; one that is being changed at this moment is left to the next claim."""
    jobs = schema.jobs
    of_unit = jobs.alias()
    last = select(func.max(of_unit.c.turn)).where(of_unit.c.unit == jobs.c.unit).scalar_subquery()
    query = select(jobs).where(_claimable(now))
    query = query.order_by(func.coalesce(last, 0), jobs.c.seq).limit(1)
    return query.with_for_update(skip_locked=True, of=jobs)
