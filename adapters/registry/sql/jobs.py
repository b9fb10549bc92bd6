"""Jobs in the database: what owners ask for, and what jobs have told.

What a trainer does is in `trainer_jobs`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Select, Table, exists, insert, select

from adapters.domain import audit_facts
from adapters.domain.audit import Action
from adapters.domain.jobs import Job, JobCheckpoint, JobEvent, JobStatus, StopRequest
from adapters.domain.names import FileId, JobId, Unit
from adapters.domain.pages import Page
from adapters.domain.principals import Principal
from adapters.errors import Conflict
from adapters.hashing import sha256_bytes
from adapters.registry.ports.jobs import NewJob
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.files import hold_file
from adapters.registry.sql.job_rows import MISSING, change_job, find_job
from adapters.registry.sql.queries import (
    add_missing,
    check_acts_for,
    cursor_number,
    lock_revision,
    one,
    page,
    visible,
)
from adapters.registry.sql.rollout_rows import fail_rollouts
from adapters.registry.sql.trainer_jobs import SqlTrainerJobs
from adapters.registry.sql.version_rows import check_trainable
from adapters.registry.transitions import jobs as transitions
from adapters.registry.transitions.rollouts import ASKER_CANCELLED

_SEEDS = 2**31


class SqlJobs(SqlTrainerJobs):
    """Implements `Jobs`."""

    def create(self, job: NewJob, principal: Principal, *, idempotency_key: str | None) -> Job:
        """Stores the job, or finds the one stored first under the same key and words.

        Raises Conflict (`idempotency_key_reused`, `version_retired`, `version_rejected`), NotFound
        for a file or a version that is not the unit's.
        """
        check_acts_for(principal, job.unit, "no such unit")
        words = _words_of(job)
        with self._database.write() as connection:
            first = _first_with(connection, job.unit, idempotency_key, words)
            if first is not None:
                return first
            check_trainable(connection, job.model, job.unit)
            now = self._database.now(connection)
            for param in ("training_file", "validation_file"):
                file_id: FileId | None = getattr(job, param)
                if file_id is not None:
                    hold_file(connection, file_id, job.unit, param=param, now=now)
            stored = _begin(job, principal, at=now)
            values = rows.job_values(stored) | {"idempotency_key": idempotency_key, "words": words}
            if idempotency_key is None:
                connection.execute(insert(schema.jobs).values(values))
            elif not add_missing(connection, schema.jobs, values):
                # another request with this key came first, and has been waited for
                return _first_or_conflict(connection, job, idempotency_key, words)
            _add_metadata(connection, stored)
            append(
                connection,
                principal,
                Action.JOB_CREATED,
                f"job/{stored.id}",
                at=stored.created_at,
                unit=stored.unit,
                after=audit_facts.of_job(stored),
            )
            return stored

    def get(self, job_id: JobId, principal: Principal) -> Job:
        """Raises NotFound when unknown or another unit's."""
        with self._database.read() as connection:
            return rows.job_from(one(connection, _jobs(principal, id=job_id), MISSING))

    def list(
        self,
        principal: Principal,
        *,
        metadata: Mapping[str, str] | None,
        after: str | None,
        limit: int,
    ) -> Page[Job]:
        """Newest first, those with every given pair of metadata; of no pairs, those without any.

        Raises NotFound for `after`.
        """
        query = _jobs(principal).order_by(schema.jobs.c.seq.desc())
        if metadata is not None and not metadata:
            query = query.where(~exists().where(schema.job_metadata.c.job_id == schema.jobs.c.id))
        for key, value in (metadata or {}).items():
            query = query.where(_tagged(key, value))
        with self._database.read() as connection:
            if after is not None:
                missing = "no such job to go on after"
                cursor = one(connection, _jobs(principal, id=after), missing, param="after")["seq"]
                query = query.where(schema.jobs.c.seq < cursor)
            return page(connection, query, rows.job_from, limit)

    def request_stop(
        self, job_id: JobId, stop: StopRequest, principal: Principal, *, reason: str | None = None
    ) -> Job:
        """Cancel or pause: at once where no trainer runs it, else recorded for the trainer.

        Raises NotFound, IllegalTransition.
        """
        with self._database.write() as connection:
            lock_revision(connection)  # before the job: a cancel may end a rollout
            job = find_job(connection, job_id, principal)
            at = self._database.now(connection)
            after = transitions.stop(job, stop, at=at)
            change_job(connection, job, after, by=principal, at=at, reason=reason)
            if transitions.is_cancelled(after):
                asked = schema.rollouts.c.actor == job_id
                fail_rollouts(connection, asked, ASKER_CANCELLED, by=principal, at=at)
            return after

    def resume(self, job_id: JobId, principal: Principal, *, reason: str | None = None) -> Job:
        """Paused → queued. Raises NotFound, IllegalTransition."""
        with self._database.write() as connection:
            job = find_job(connection, job_id, principal)
            after, at = transitions.resume(job), self._database.now(connection)
            return change_job(connection, job, after, by=principal, at=at, reason=reason)

    def events(
        self, job_id: JobId, principal: Principal, *, after: str | None, limit: int
    ) -> Page[JobEvent]:
        """Newest first; `after` is an event's id as text. Raises NotFound."""
        with self._database.read() as connection:
            query = _history(connection, schema.job_events, job_id, principal, after)
            return page(connection, query, rows.event_from, limit)

    def checkpoints(
        self, job_id: JobId, principal: Principal, *, after: str | None, limit: int
    ) -> Page[JobCheckpoint]:
        """Newest first; `after` is a checkpoint's id as text. Raises NotFound."""
        with self._database.read() as connection:
            query = _history(connection, schema.job_checkpoints, job_id, principal, after)
            return page(connection, query, rows.checkpoint_from, limit)


def _words_of(job: NewJob) -> str:
    """The digest of what was asked for; the id is ours, so it is no part of it."""
    words = {name: value for name, value in vars(job).items() if name != "id"}
    words["hyperparameters"] = job.hyperparameters.model_dump(mode="json")
    words["metadata"] = dict(job.metadata) if job.metadata else None
    words["recipe"] = job.recipe and job.recipe.model_dump(mode="json", exclude_none=True)
    for name in ("recipe", "dry_run"):  # as of builds that had no such words
        if not words[name]:
            del words[name]
    return sha256_bytes(json.dumps(words, sort_keys=True).encode())


def _begin(job: NewJob, principal: Principal, *, at: float) -> Job:
    values = vars(job) | {
        "seed": secrets.randbelow(_SEEDS) if job.seed is None else job.seed,
        "seed_drawn": job.seed is None,
        "metadata": dict(job.metadata) if job.metadata is not None else None,
    }
    return Job(**values, status=JobStatus.VALIDATING_FILES, created_at=at, created_by=principal.id)


def _first_with(
    connection: Connection, unit: Unit, idempotency_key: str | None, words: str
) -> Job | None:
    """The job stored under the key. Raises Conflict where it was asked for in other words."""
    if idempotency_key is None:
        return None
    jobs = schema.jobs
    query = select(jobs).where(jobs.c.unit == unit, jobs.c.idempotency_key == idempotency_key)
    row = connection.execute(query).mappings().one_or_none()
    # a job from before words were kept has none, and is answered as it always was
    if row is not None and row["words"] not in (None, words):
        raise Conflict(
            "this idempotency key was used before, for a job with other parameters",
            code="idempotency_key_reused",
        )
    return None if row is None else rows.job_from(row)


def _first_or_conflict(connection: Connection, job: NewJob, key: str, words: str) -> Job:
    first = _first_with(connection, job.unit, key, words)
    if first is None:  # it is not the key but the id that is there already
        raise Conflict("another change came first", code="already_exists")
    return first


def _add_metadata(connection: Connection, job: Job) -> None:
    pairs = [
        {"job_id": job.id, "key": key, "value": value}
        for key, value in (job.metadata or {}).items()
    ]
    if pairs:
        connection.execute(insert(schema.job_metadata), pairs)


def _jobs(principal: Principal, *, id: str | None = None) -> Select[Any]:
    query = select(schema.jobs).where(visible(schema.jobs.c.unit, principal))
    return query if id is None else query.where(schema.jobs.c.id == id)


def _tagged(key: str, value: str) -> Any:
    pairs = schema.job_metadata.c
    return exists().where(pairs.job_id == schema.jobs.c.id, pairs.key == key, pairs.value == value)


def _history(
    connection: Connection, table: Table, job_id: JobId, principal: Principal, after: str | None
) -> Select[Any]:
    one(connection, _jobs(principal, id=job_id), MISSING)
    query = select(table).where(table.c.job_id == job_id).order_by(table.c.id.desc())
    if after is None:
        return query
    return query.where(table.c.id < cursor_number(after))
