"""What the `sql_…` modules share: the database they stand on, finding one row, cutting a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, Select, Table, insert, select, update

from adapters.domain.pages import Page
from adapters.errors import NotFound
from adapters.registry import schema
from adapters.registry.database import Database, is_write

T = TypeVar("T")


class SqlPart:
    """A part of the registry, on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database


def one(connection: Connection, query: Select[Any], missing: str) -> RowMapping:
    """The row; in a write, locked where the database locks rows. Raises NotFound."""
    if is_write(connection):
        query = query.with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(missing)
    return row


def page(
    connection: Connection, query: Select[Any], convert: Callable[[RowMapping], T], limit: int
) -> Page[T]:
    """The first `limit` of an ordered query; one row more tells whether there are more."""
    rows = connection.execute(query.limit(limit + 1)).mappings().all()
    return Page(items=[convert(row) for row in rows[:limit]], has_more=len(rows) > limit)


def all_of(
    connection: Connection, query: Select[Any], convert: Callable[[RowMapping], T]
) -> Iterable[T]:
    """Every row of a query, as values."""
    return [convert(row) for row in connection.execute(query).mappings()]


def added_id(connection: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Inserts a row; the answer is the number the database gave it."""
    result = connection.execute(insert(table).values(values).returning(table.c.id))
    return int(result.scalar_one())


def bump_revision(connection: Connection) -> None:
    """To be called in the transaction of every change that a snapshot would show."""
    table = schema.revision
    connection.execute(update(table).values(value=table.c.value + 1))


def current_revision(connection: Connection) -> int:
    """The counter's value in this transaction."""
    return int(connection.execute(select(schema.revision.c.value)).scalar_one())
