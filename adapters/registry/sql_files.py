"""Uploaded files in the database."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Select, delete, func, insert, or_, select

from adapters.domain.files import StoredFile
from adapters.domain.jobs import JobStatus
from adapters.domain.names import Digest, FileId, Unit
from adapters.domain.pages import Page
from adapters.errors import Conflict
from adapters.registry import rows, schema
from adapters.registry.sql_rows import SqlPart, one, page

_UNFINISHED = [status.value for status in JobStatus if not status.finished]


class SqlFiles(SqlPart):
    """The registry's methods about files."""

    def add_file(self, file: StoredFile) -> None:
        """Raises Conflict when its id is there already."""
        with self._database.write() as connection:
            connection.execute(insert(schema.files).values(rows.file_values(file)))

    def file(self, file_id: FileId, *, unit: Unit | None) -> StoredFile:
        """Raises NotFound when unknown, deleted or another unit's."""
        with self._database.read() as connection:
            return rows.file_from(one(connection, _files(unit, id=file_id), "no such file"))

    def files(
        self,
        *,
        unit: Unit | None,
        purpose: str | None,
        after: str | None,
        limit: int,
        newest_first: bool,
    ) -> Page[StoredFile]:
        """By upload; `after` is a file's id. Raises NotFound for an unknown one."""
        seq = schema.files.c.seq
        query = _files(unit).order_by(seq.desc() if newest_first else seq.asc())
        if purpose is not None:
            query = query.where(schema.files.c.purpose == purpose)
        with self._database.read() as connection:
            if after is not None:
                last = one(connection, _files(unit, id=after), "no such file to go on after")["seq"]
                query = query.where(seq < last if newest_first else seq > last)
            return page(connection, query, rows.file_from, limit)

    def delete_file(self, file_id: FileId, *, unit: Unit | None) -> Digest | None:
        """Raises NotFound, and Conflict (`file_in_use`) while an unfinished job names it.

        The answer is the digest of bytes that no file names any more.
        """
        table = schema.files
        with self._database.write() as connection:
            file = rows.file_from(one(connection, _files(unit, id=file_id), "no such file"))
            if _count(connection, _unfinished_jobs_with(file_id)):
                raise Conflict("a job that is not finished uses this file", code="file_in_use")
            connection.execute(delete(table).where(table.c.id == file_id))
            return None if _count(connection, table.c.digest == file.digest) else file.digest


def _files(unit: Unit | None, *, id: str | None = None) -> Select[tuple[object, ...]]:
    query = select(schema.files)
    if unit is not None:
        query = query.where(schema.files.c.unit == unit)
    return query if id is None else query.where(schema.files.c.id == id)


def _unfinished_jobs_with(file_id: FileId) -> ColumnElement[bool]:
    jobs = schema.jobs.c
    named = or_(jobs.training_file == file_id, jobs.validation_file == file_id)
    return jobs.status.in_(_UNFINISHED) & named


def _count(connection: Connection, condition: ColumnElement[bool]) -> int:
    return connection.execute(select(func.count()).where(condition)).scalar_one()
