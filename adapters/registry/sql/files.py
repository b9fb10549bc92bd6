"""Uploaded files in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, insert, or_, select, update

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
            return add_file(connection, file, by=by, at=at)

    def get(self, file_id: FileId, principal: Principal) -> StoredFile:
        """Raises NotFound when unknown, deleted or another unit's."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            query = _kept(principal, now).where(schema.files.c.id == file_id)
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
        with self._database.read() as connection:
            query = _kept(principal, self._database.now(connection))
            query = query.order_by(seq.desc() if newest_first else seq.asc())
            if purpose is not None:
                query = query.where(table.c.purpose == purpose)
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
            at = self._database.now(connection)
            query = _kept(principal, at).where(table.c.id == file_id).with_for_update(of=table)
            file = rows.file_from(one(connection, query, _MISSING))
            if in_use(connection, [file_id]):
                raise Conflict("a job that is not finished uses this file", code="file_in_use")
            forget(connection, [file_id], at=at)
            audit_forgotten(connection, file, by=principal, at=at, reason=reason)


def add_file(connection: Connection, file: NewFile, *, by: Principal, at: float) -> StoredFile:
    """Stores a file that is not condemned; audits, so it is to be called last."""
    values = dict(vars(file))
    lifetime = values.pop("lifetime")
    expires_at = None if lifetime is None else at + lifetime
    stored = StoredFile(**values, created_at=at, expires_at=expires_at)
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


def hold_file(
    connection: Connection, file_id: FileId, unit: Unit, *, param: str, now: float
) -> None:
    """Keeps a file of the unit from being deleted until the end. Raises NotFound."""
    table = schema.files
    query = select(table.c.id).where(table.c.id == file_id, table.c.unit == unit, there(now))
    # a deleter that holds the row waits for its end here; the row is then looked at again
    if connection.execute(query.with_for_update(read=True, of=table)).first() is None:
        raise NotFound(_MISSING, param=param)


def there(now: float) -> ColumnElement[bool]:
    """Files that were not deleted and have not expired."""
    files = schema.files.c
    expired = and_(files.expires_at.is_not(None), files.expires_at <= now)
    return and_(files.deleted_at.is_(None), or_(~expired, exists().where(_uses(files.id))))


def in_use(connection: Connection, file_ids: Sequence[FileId]) -> set[FileId]:
    """Those that unfinished jobs name; to be asked once the files are locked."""
    jobs = schema.jobs.c
    query = select(jobs.training_file, jobs.validation_file).where(
        jobs.status.in_(UNFINISHED),
        or_(jobs.training_file.in_(file_ids), jobs.validation_file.in_(file_ids)),
    )
    named = {file_id for row in connection.execute(query) for file_id in row}
    return named & set(file_ids)


def forget(connection: Connection, file_ids: Sequence[FileId], *, at: float) -> None:
    """Their bytes are collected later, their rows stay for a while: lists go on after them."""
    table = schema.files
    forgotten = {"filename": "", "deleted_at": at}
    connection.execute(update(table).where(table.c.id.in_(file_ids)).values(forgotten))


def audit_forgotten(
    connection: Connection, file: StoredFile, *, by: Principal, at: float, reason: str | None
) -> None:
    """Tells the audit log, so it is to be called last."""
    append(
        connection,
        by,
        Action.FILE_DELETED,
        f"file/{file.id}",
        at=at,
        unit=file.unit,
        before=audit_facts.of_file(file),
        reason=reason,
    )


def _kept(principal: Principal, now: float) -> Select[Any]:
    return select(schema.files).where(visible(schema.files.c.unit, principal), there(now))


def _uses(file_id: ColumnElement[Any]) -> ColumnElement[bool]:
    jobs = schema.jobs.c
    named = or_(jobs.training_file == file_id, jobs.validation_file == file_id)
    return jobs.status.in_(UNFINISHED) & named
