"""Uploaded files in the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, insert, or_, select, update

from adapters.domain import audit_facts
from adapters.domain.audit import Action
from adapters.domain.files import StoredFile
from adapters.domain.jobs import JobStatus
from adapters.domain.names import FileId, Unit
from adapters.domain.pages import Page
from adapters.domain.principals import Principal
from adapters.errors import Conflict, NotFound
from adapters.registry.ports.files import NewFile
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.condemned import check_not_condemned
from adapters.registry.sql.queries import SqlPort, one, page, share_revision, visible

UNFINISHED = [status.value for status in JobStatus if not status.finished]
_MISSING = "no such file"


class SqlFiles(SqlPort):
    """Implements `Files`."""

    def add(self, file: NewFile, *, by: Principal) -> StoredFile:
        """Raises Conflict, and Condemned while the digest is collected."""
        with self._database.write() as connection:
            # nobody condemns the digest between the look and the end of this transaction
            share_revision(connection)
            at = self._database.now(connection)
            check_not_condemned(connection, file.digest, now=at)
            stored = StoredFile(**vars(file), created_at=at)
            connection.execute(insert(schema.files).values(rows.file_values(stored)))
            append(
                connection,
                by,
                Action.FILE_CREATED,
                f"file/{stored.id}",
                at=at,
                unit=stored.unit,
                after=audit_facts.of_file(stored),
            )
            return stored

    def get(self, file_id: FileId, principal: Principal) -> StoredFile:
        """Raises NotFound when unknown, deleted or another unit's."""
        query = _kept(principal).where(schema.files.c.id == file_id)
        with self._database.read() as connection:
            return rows.file_from(one(connection, query, _MISSING))

    def list(
        self,
        principal: Principal,
        *,
        purpose: str | None,
        after: str | None,
        limit: int,
        newest_first: bool,
    ) -> Page[StoredFile]:
        """By upload. `after` is a file's id; it works although that file was deleted meanwhile."""
        table = schema.files
        seq = table.c.seq
        query = _kept(principal).order_by(seq.desc() if newest_first else seq.asc())
        if purpose is not None:
            query = query.where(table.c.purpose == purpose)
        with self._database.read() as connection:
            if after is not None:
                cursor = select(seq).where(visible(table.c.unit, principal), table.c.id == after)
                missing = "no such file to go on after"
                last = one(connection, cursor, missing, param="after")["seq"]
                query = query.where(seq < last if newest_first else seq > last)
            return page(connection, query, rows.file_from, limit)

    def delete(self, file_id: FileId, principal: Principal, *, reason: str | None = None) -> None:
        """Forgets a file; its bytes are collected later.

        Raises NotFound, and Conflict (`file_in_use`) while an unfinished job names the file.
        """
        table = schema.files
        with self._database.write() as connection:
            query = _kept(principal).where(table.c.id == file_id).with_for_update()
            file = rows.file_from(one(connection, query, _MISSING))
            if connection.execute(select(exists().where(_in_use(file_id)))).scalar_one():
                raise Conflict("a job that is not finished uses this file", code="file_in_use")
            at = self._database.now(connection)
            forgotten = {"filename": "", "deleted_at": at}
            connection.execute(update(table).where(table.c.id == file_id).values(forgotten))
            append(
                connection,
                principal,
                Action.FILE_DELETED,
                f"file/{file_id}",
                at=at,
                unit=file.unit,
                before=audit_facts.of_file(file),
                reason=reason,
            )


def hold_file(connection: Connection, file_id: FileId, unit: Unit, *, param: str) -> None:
    """Keeps a file of the unit from being deleted until the end. Raises NotFound."""
    table = schema.files
    query = select(table.c.id).where(
        table.c.id == file_id, table.c.unit == unit, table.c.deleted_at.is_(None)
    )
    # a deleter that holds the row waits for its end here; the row is then looked at again
    if connection.execute(query.with_for_update(read=True)).first() is None:
        raise NotFound(_MISSING, param=param)


def _kept(principal: Principal) -> Select[Any]:
    files = schema.files
    return select(files).where(visible(files.c.unit, principal), files.c.deleted_at.is_(None))


def _in_use(file_id: FileId) -> ColumnElement[bool]:
    jobs = schema.jobs.c
    named = or_(jobs.training_file == file_id, jobs.validation_file == file_id)
    return jobs.status.in_(UNFINISHED) & named
