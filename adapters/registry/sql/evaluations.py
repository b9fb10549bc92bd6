"""Evaluations in the database: rows that are added and never changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, or_, select

from adapters.domain import audit_facts
from adapters.domain.audit import Action
from adapters.domain.evaluations import Evaluation, NewEvaluation
from adapters.domain.names import JobId, Unit, VersionId
from adapters.domain.pages import Page
from adapters.domain.principals import SYSTEM, Principal
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.job_rows import held_job
from adapters.registry.sql.queries import (
    SqlPort,
    add_numbered,
    all_of,
    cursor_number,
    first_of,
    page,
    visible,
)


class SqlEvaluations(SqlPort):
    """Implements `Evaluations`."""

    def add(
        self, new: Sequence[NewEvaluation], *, job_id: JobId | None, fence: int | None
    ) -> Sequence[Evaluation]:
        """All or none; what the job has added before stays as it was. Raises LeaseLost."""
        with self._database.write() as connection:
            by = SYSTEM if job_id is None else held_job(connection, job_id, fence).principal
            at = self._database.now(connection)
            return [_add(connection, each, job_id=job_id, by=by, at=at) for each in new]

    def relevant(
        self, unit: Unit, adapter: str, *, subjects: Collection[str], since: VersionId
    ) -> Sequence[Evaluation]:
        """Those of one of `subjects` or of a version newer than `since`, oldest first."""
        table = schema.evaluations
        query = select(table).where(
            table.c.adapter == adapter,
            table.c.unit == unit,
            or_(table.c.subject.in_(subjects), table.c.version_id > since),
        )
        with self._database.read() as connection:
            return all_of(connection, query.order_by(table.c.id), rows.evaluation_from)

    def list(
        self,
        principal: Principal,
        *,
        adapter: str,
        subject: str | None,
        after: str | None,
        limit: int,
    ) -> Page[Evaluation]:
        """Newest first. Raises NotFound for a cursor that no id could be."""
        table = schema.evaluations
        query = select(table).where(visible(table.c.unit, principal), table.c.adapter == adapter)
        if subject is not None:
            query = query.where(table.c.subject == subject)
        if after is not None:
            query = query.where(table.c.id < cursor_number(after))
        with self._database.read() as connection:
            ordered = query.order_by(table.c.id.desc())
            return page(connection, ordered, rows.evaluation_from, limit)


def _add(
    connection: Connection, new: NewEvaluation, *, job_id: JobId | None, by: Principal, at: float
) -> Evaluation:
    if job_id is not None:
        first = _added_before(connection, new, job_id)
        if first is not None:
            return first
    values = rows.evaluation_values(new) | {"job_id": job_id, "created_at": at}
    number = add_numbered(connection, schema.evaluations, values)
    added = Evaluation(
        **{name: getattr(new, name) for name in NewEvaluation.__dataclass_fields__},
        id=number,
        created_at=at,
        job_id=job_id,
    )
    append(
        connection,
        by,
        Action.EVALUATION_ADDED,
        f"adapter/{new.adapter}" if new.version_id is None else f"version/{new.subject}",
        at=at,
        unit=new.unit,
        after=audit_facts.of_evaluation(added),
    )
    return added


def _added_before(connection: Connection, new: NewEvaluation, job_id: JobId) -> Evaluation | None:
    table = schema.evaluations
    query = select(table).where(
        table.c.job_id == job_id,
        table.c.subject == new.subject,
        table.c.scorer == new.scorer.value,
        table.c.part == new.part.value,
        table.c.dataset == new.dataset,
    )
    return first_of(connection, query, rows.evaluation_from)
