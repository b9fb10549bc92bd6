"""Finding and changing a job's row, for every command that touches one."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from adapters.domain import audit_facts
from adapters.domain.jobs import Job
from adapters.domain.names import JobId
from adapters.domain.principals import SYSTEM, Principal
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.queries import first_of, one, visible
from adapters.registry.transitions.jobs import held

MISSING = "no such job"


def find_job(connection: Connection, job_id: JobId, principal: Principal = SYSTEM) -> Job:
    """The job, locked until the end. Raises NotFound."""
    jobs = schema.jobs
    query = select(jobs).where(jobs.c.id == job_id, visible(jobs.c.unit, principal))
    return rows.job_from(one(connection, query.with_for_update(), MISSING))


def held_job(connection: Connection, job_id: JobId, fence: int | None) -> Job:
    """The job, locked, while `fence` is its own. Raises NotFound, LeaseLost."""
    return held(find_job(connection, job_id), fence)


def job_called(connection: Connection, actor: str) -> Job | None:
    """The job that acts under this name, locked; None where it is a key's."""
    query = select(schema.jobs).where(schema.jobs.c.id == actor)
    return first_of(connection, query.with_for_update(), rows.job_from)


def change_job(
    connection: Connection,
    before: Job,
    after: Job,
    *,
    by: Principal,
    at: float,
    reason: str | None = None,
) -> Job:
    """Writes `after` where it differs, and audits what moved it; to be called last."""
    if after == before:
        return after
    jobs = schema.jobs
    connection.execute(update(jobs).where(jobs.c.id == after.id).values(rows.job_values(after)))
    action = audit_facts.job_action(before, after)
    if action is not None:
        append(
            connection,
            by,
            action,
            f"job/{after.id}",
            at=at,
            unit=after.unit,
            before=audit_facts.of_job(before),
            after=audit_facts.of_job(after),
            reason=after.error.code if after.error and reason is None else reason,
        )
    return after
