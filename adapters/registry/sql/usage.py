"""Usage in the database: a row for each day and key, added to in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, select, update

from adapters.domain.limits import Traffic
from adapters.domain.principals import Principal
from adapters.registry.ports.usage import DayUsage, UsageKey, Used
from adapters.registry.sql import schema
from adapters.registry.sql.queries import SqlPort, add_missing, all_of, put, visible

_DAY = 86_400
_SUMS = ("requests", "prompt_tokens", "completion_tokens", "cost_nano")


class SqlUsageLedger(SqlPort):
    """Implements `UsageLedger`."""

    def add(self, writer: str, batch: int, used: Sequence[tuple[UsageKey, Used]]) -> None:
        """Adds to the present day, once."""
        writers = schema.usage_writers
        with self._database.write() as connection:
            now = self._database.now(connection)
            day = int(now // _DAY)
            add_missing(connection, writers, {"writer": writer, "batch": 0, "seen_at": now})
            # the row's lock also keeps an answer that was lost from being added while it is
            last = select(writers.c.batch).where(writers.c.writer == writer).with_for_update()
            if connection.execute(last).scalar_one() >= batch:
                return
            put(connection, writers, {"writer": writer, "batch": batch, "seen_at": now})
            # in one order, so that of two writers one waits for the other, and never both
            for key, amount in sorted(used, key=lambda each: _order(each[0])):
                row = {"day": day, **_key_values(key)}
                add_missing(connection, schema.usage, {**row, **dict.fromkeys(_SUMS, 0)})
                itself = [schema.usage.c[name] == value for name, value in row.items()]
                sums = {name: schema.usage.c[name] + getattr(amount, name) for name in _SUMS}
                connection.execute(update(schema.usage).where(*itself).values(sums))

    def of_version(self, principal: Principal, version: str) -> Sequence[DayUsage]:
        """Oldest first."""
        table = schema.usage
        query = (
            select(table)
            .where(table.c.version == version, visible(table.c.unit, principal))
            .order_by(*(column for column in table.primary_key))
        )
        with self._database.read() as connection:
            return all_of(connection, query, _usage_from)

    def days(self, principal: Principal, *, since: int, until: int) -> Sequence[DayUsage]:
        """Oldest first."""
        table = schema.usage
        query = (
            select(table)
            .where(table.c.day >= since, table.c.day < until, visible(table.c.unit, principal))
            .order_by(*(column for column in table.primary_key))
        )
        with self._database.read() as connection:
            return all_of(connection, query, _usage_from)


def _order(key: UsageKey) -> tuple[str, ...]:
    return key.unit, key.alias, key.version, key.traffic.value


def _key_values(key: UsageKey) -> dict[str, Any]:
    return {
        "unit": key.unit,
        "alias": key.alias,
        "version": key.version,
        "traffic": key.traffic.value,
    }


def _usage_from(row: RowMapping) -> DayUsage:
    return DayUsage(
        day=row["day"],
        key=UsageKey(
            unit=row["unit"],
            alias=row["alias"],
            version=row["version"],
            traffic=Traffic(row["traffic"]),
        ),
        used=Used(**{name: row[name] for name in _SUMS}),
    )
