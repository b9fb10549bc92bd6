"""The audit log in the database: `append` for every command that changes something, and reading.

There is one chain, and who appends to it holds the lock of its head until the end of the
transaction. Readers wait for nobody. So that no two commands wait for each other, the lock is the
last one that a transaction takes: the revision, then rows, then the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from sqlalchemy import Connection, insert, select, update

from adapters.domain.audit import Action, Entry, Facts, Head, change, linked
from adapters.domain.pages import Page
from adapters.domain.principals import Principal
from adapters.registry.ports.audit import Which
from adapters.registry.sql import rows, schema
from adapters.registry.sql.queries import SqlPort, all_of, cursor_number, page, visible

BATCH = 1000
"""Entries read in one transaction when the whole log is read."""


def append(
    connection: Connection,
    principal: Principal,
    action: Action,
    subject: str,
    *,
    at: float,
    unit: str | None,
    before: Facts | None = None,
    after: Facts | None = None,
    reason: str | None = None,
) -> None:
    """Adds an entry in the transaction of the change: both are there, or neither.

    To be called when every other lock has been taken, but for rows that the revision's lock guards
    and the transaction holds that. `subject` is `<kind>/<name>`, `unit` whose
    thing it is, `at` the database's time; `before` and `after` are flat facts, without content.
    """
    new = change(principal, action, subject, unit=unit, before=before, after=after, reason=reason)
    table = schema.audit_head
    # on SQLite the write transaction itself is the lock
    row = connection.execute(select(table.c.seq, table.c.hash).with_for_update()).one()
    entry = linked(new, to=Head(seq=row.seq, hash=row.hash), at=at)
    connection.execute(insert(schema.audit).values(rows.entry_values(entry)))
    connection.execute(update(table).values(asdict(entry.head)))


class SqlAudit(SqlPort):
    """Implements `Audit`."""

    def list(
        self, principal: Principal, which: Which, *, after: str | None, limit: int
    ) -> Page[Entry]:
        """Newest first. Raises NotFound for a cursor that no number could be."""
        table = schema.audit
        query = select(table).where(visible(table.c.unit, principal))
        for name, value in asdict(which).items():
            if value is not None:
                query = query.where(table.c[name] == value)
        if after is not None:
            query = query.where(table.c.seq < cursor_number(after))
        with self._database.read() as connection:
            return page(connection, query.order_by(table.c.seq.desc()), rows.entry_from, limit)

    def head(self) -> Head:
        """The newest entry's number and hash."""
        with self._database.read() as connection:
            return _head(connection)

    def parts(self) -> Iterator[tuple[Sequence[Entry], Head]]:
        """The whole log in order; the last part is one that is not full."""
        table, last, found = schema.audit, 0, BATCH
        while found == BATCH:
            query = select(table).where(table.c.seq > last).order_by(table.c.seq).limit(BATCH)
            with self._database.read() as connection:
                entries = all_of(connection, query, rows.entry_from)
                head = _head(connection)
            yield entries, head
            found = len(entries)
            last = entries[-1].seq if entries else last


def _head(connection: Connection) -> Head:
    table = schema.audit_head
    row = connection.execute(select(table.c.seq, table.c.hash)).one()
    return Head(seq=row.seq, hash=row.hash)
