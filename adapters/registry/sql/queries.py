"""What the ports' implementations share: the revision's lock, finding a row, cutting a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    Table,
    false,
    func,
    insert,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from adapters.domain.pages import Page
from adapters.domain.principals import Principal, Role
from adapters.errors import NotFound
from adapters.registry.sql import schema
from adapters.registry.sql.database import Database

T = TypeVar("T")

MAX_NUMBER = 2**31 - 1
"""The highest id that a row can have."""
CHANNEL = "wardrobe_revision"
"""Where PostgreSQL tells of a new revision; see `hints`."""


class SqlPort:
    """A port's implementation, on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database


# -- the revision


def current_revision(connection: Connection) -> int:
    """The counter's value in this transaction."""
    return int(connection.execute(select(schema.revision.c.value)).scalar_one())


def lock_revision(connection: Connection) -> int:
    """Waits for every other change that replicas route by, and holds them up until the end.

    To be called before any other row is locked. The answer is the revision as it is.
    """
    query = select(schema.revision.c.value).with_for_update()
    return int(connection.execute(query).scalar_one())


def share_revision(connection: Connection) -> int:
    """Waits for changes under way, and keeps the revision as it is until the end."""
    query = select(schema.revision.c.value).with_for_update(read=True)
    return int(connection.execute(query).scalar_one())


def bump_revision(connection: Connection) -> int:
    """The next revision, in a transaction that holds the revision's lock."""
    table = schema.revision
    bumped = update(table).values(value=table.c.value + 1).returning(table.c.value)
    value = int(connection.execute(bumped).scalar_one())
    if connection.dialect.name == "postgresql":
        # sent when the transaction commits, and only then
        connection.execute(select(func.pg_notify(CHANNEL, str(value))))
    return value


# -- who sees what


def visible(column: ColumnElement[Any], principal: Principal) -> ColumnElement[bool]:
    """Rows whose unit `principal` may act for, by `Principal.may_act_for`."""
    if principal.role is Role.UNIT:
        return column == principal.unit
    return true() if principal.sees_every_unit else false()


def check_acts_for(principal: Principal, unit: str, missing: str) -> None:
    """Raises NotFound: what is another unit's looks unknown."""
    if not principal.may_act_for(unit):
        raise NotFound(missing)


# -- rows


def one(
    connection: Connection, query: Select[Any], missing: str, *, param: str | None = None
) -> RowMapping:
    """The row. Raises NotFound."""
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(missing, param=param)
    return row


def first_of(
    connection: Connection, query: Select[Any], convert: Callable[[RowMapping], T]
) -> T | None:
    """The first row as a value, or None."""
    row = connection.execute(query).mappings().first()
    return None if row is None else convert(row)


def all_of(
    connection: Connection, query: Select[Any], convert: Callable[[RowMapping], T]
) -> Sequence[T]:
    """Every row of a query, as values."""
    return [convert(row) for row in connection.execute(query).mappings()]


def page(
    connection: Connection, query: Select[Any], convert: Callable[[RowMapping], T], limit: int
) -> Page[T]:
    """The first `limit` of an ordered query; one row more tells whether there are more."""
    rows = connection.execute(query.limit(limit + 1)).mappings().all()
    return Page(items=[convert(row) for row in rows[:limit]], has_more=len(rows) > limit)


def cursor_number(after: str) -> int:
    """A numeric cursor. Raises NotFound for text that no id could be."""
    if not (after.isascii() and after.isdigit() and len(after) < 19):
        raise NotFound("nothing to go on after", param="after")
    return min(int(after), MAX_NUMBER)


def add_numbered(connection: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Inserts a row; the answer is the number the database gave it."""
    result = connection.execute(insert(table).values(values).returning(table.c.id))
    return int(result.scalar_one())


def add_missing(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Inserts a row unless one is there that a key allows once; waits for who is adding it."""
    statement = _insert(connection, table).values(values).on_conflict_do_nothing()
    # not `rowcount`: on PostgreSQL it is -1 for a table whose key the database draws
    added = connection.execute(statement.returning(literal_column("1")))
    return added.first() is not None


def add_all_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Inserts those of `rows` that no key forbids, and waits for who is adding them; how many."""
    return connection.execute(_insert(connection, table).on_conflict_do_nothing(), rows).rowcount


def put(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Inserts a row, or gives the one with its primary key these values."""
    keys = [column.name for column in table.primary_key]
    changed = {name: value for name, value in values.items() if name not in keys}
    statement = _insert(connection, table).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))


def _insert(connection: Connection, table: Table) -> Any:
    postgres = connection.dialect.name == "postgresql"
    return postgres_insert(table) if postgres else sqlite_insert(table)
