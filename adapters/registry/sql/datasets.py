"""Datasets in the database: the parts of questions, and the artifacts of jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, and_, or_, select

from adapters.domain.datasets import Part
from adapters.domain.names import Digest, JobId
from adapters.registry.sql import schema
from adapters.registry.sql.condemned import check_not_condemned
from adapters.registry.sql.files import UNFINISHED
from adapters.registry.sql.job_rows import held_job
from adapters.registry.sql.queries import SqlPort, add_all_missing, put, share_revision

BATCH = 1000
"""Questions asked for in one statement; SQLite and PostgreSQL bound a statement's parameters."""


class SqlDatasets(SqlPort):
    """Implements `Datasets`."""

    def parts(self, adapter: str, questions: Collection[bytes]) -> dict[bytes, Part]:
        """The parts of those of `questions` that have one."""
        with self._database.read() as connection:
            return _parts(connection, adapter, questions)

    def assign(
        self, adapter: str, parts: Mapping[bytes, Part], *, job_id: JobId, fence: int
    ) -> dict[bytes, Part]:
        """The first decision stays, whoever made it. Raises LeaseLost."""
        with self._database.write() as connection:
            held_job(connection, job_id, fence)
            at = self._database.now(connection)
            with connection.begin_nested() as all_or_none:
                # in one order, so that of two jobs one waits for the other, and never both
                added = sum(
                    add_all_missing(
                        connection,
                        schema.dataset_questions,
                        [_row(adapter, question, parts[question], at) for question in batch],
                    )
                    for batch in _batches(sorted(parts))
                )
                # nobody was first: no need to read, while other writers wait
                if added == len(parts) or _parts(connection, adapter, parts) == parts:
                    return dict(parts)
                all_or_none.rollback()
            return _parts(connection, adapter, parts)

    def of_job(self, job_id: JobId) -> Digest | None:
        """The artifact that the job's dataset is."""
        table = schema.datasets.c
        with self._database.read() as connection:
            found = connection.execute(select(table.digest).where(table.job_id == job_id))
            digest = found.scalar_one_or_none()
            return None if digest is None else Digest(digest)

    def newest(self, adapter: str) -> Digest | None:
        """The artifact of the adapter's newest job whose dataset is kept."""
        jobs = schema.jobs.c
        query = kept_datasets().where(jobs.adapter == adapter).order_by(jobs.seq.desc()).limit(1)
        with self._database.read() as connection:
            digest = connection.execute(query).scalar_one_or_none()
            return None if digest is None else Digest(digest)

    def record(self, job_id: JobId, digest: Digest, *, fence: int) -> None:
        """Replaces an earlier one. Raises LeaseLost, Condemned."""
        with self._database.write() as connection:
            # nobody condemns the digest between the look and the end of this transaction
            share_revision(connection)
            held_job(connection, job_id, fence)
            check_not_condemned(connection, digest, now=self._database.now(connection))
            put(connection, schema.datasets, {"job_id": job_id, "digest": digest})


def kept_datasets() -> Select[Any]:
    """Digests of those that are needed: to go on with, and to measure a version again by."""
    table, jobs, versions = schema.datasets.c, schema.jobs.c, schema.versions.c
    is_kept = and_(versions.id.is_not(None), versions.collected_at.is_(None))
    return (
        select(table.digest)
        .join(schema.jobs, jobs.id == table.job_id)
        .outerjoin(schema.versions, versions.job_id == table.job_id)
        .where(or_(jobs.status.in_(UNFINISHED), is_kept))
    )


def _row(adapter: str, question: bytes, part: Part, at: float) -> dict[str, Any]:
    return {"adapter": adapter, "question": question, "part": part.value, "decided_at": at}


def _parts(connection: Connection, adapter: str, questions: Collection[bytes]) -> dict[bytes, Part]:
    table = schema.dataset_questions.c
    known: dict[bytes, Part] = {}
    for batch in _batches(list(questions)):
        query = select(table.question, table.part).where(
            table.adapter == adapter, table.question.in_(batch)
        )
        known |= {bytes(row.question): Part(row.part) for row in connection.execute(query)}
    return known


def _batches(questions: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(questions), BATCH):
        yield questions[start : start + BATCH]
