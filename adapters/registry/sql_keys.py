"""Keys and replicas in the database, and the revision that replicas poll."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select, update

from adapters.domain.principals import Key
from adapters.registry import rows, schema
from adapters.registry.port import ReplicaReport
from adapters.registry.sql_rows import SqlPart, all_of, bump_revision, current_revision, one


class SqlKeys(SqlPart):
    """The registry's methods about keys and replicas."""

    def revision(self) -> int:
        """A number that grows whenever a snapshot would differ."""
        with self._database.read() as connection:
            return current_revision(connection)

    def add_keys(self, keys: Sequence[Key]) -> None:
        """All or none. Raises Conflict when one is there already."""
        if not keys:
            return
        with self._database.write() as connection:
            connection.execute(insert(schema.keys), [rows.key_values(key) for key in keys])
            bump_revision(connection)

    def keys(self) -> Sequence[Key]:
        """Those not revoked, oldest first."""
        table = schema.keys
        query = select(table).where(table.c.revoked_at.is_(None)).order_by(table.c.seq)
        with self._database.read() as connection:
            return list(all_of(connection, query, rows.key_from))

    def find_key(self, hashed: str) -> Key | None:
        """The key of this hash, be it revoked or not; None when it was never known."""
        table = schema.keys
        query = select(table).where(table.c.hash == hashed)
        with self._database.read() as connection:
            return next(iter(all_of(connection, query, rows.key_from)), None)

    def revoke_key(self, key_id: str, *, at: float) -> None:
        """A key revoked before keeps its first time. Raises NotFound."""
        table = schema.keys
        with self._database.write() as connection:
            row = one(connection, select(table).where(table.c.id == key_id), "no such key")
            if row["revoked_at"] is not None:
                return
            connection.execute(update(table).where(table.c.id == key_id).values(revoked_at=at))
            bump_revision(connection)

    def report_replica(self, report: ReplicaReport) -> None:
        """Upsert by id. Does not change `revision`."""
        table = schema.replicas
        values = rows.replica_values(report)
        with self._database.write() as connection:
            kept = connection.execute(update(table).where(table.c.id == report.id).values(values))
            if not kept.rowcount:
                connection.execute(insert(table).values(values))

    def replicas(self, *, newer_than: float) -> Sequence[ReplicaReport]:
        """Reports with `at` after `newer_than`, by id."""
        table = schema.replicas
        query = select(table).where(table.c.at > newer_than).order_by(table.c.id)
        with self._database.read() as connection:
            return list(all_of(connection, query, rows.replica_from))

    def forget_replica(self, replica_id: str) -> None:
        """A clean exit; unknown ids are fine."""
        table = schema.replicas
        with self._database.write() as connection:
            connection.execute(delete(table).where(table.c.id == replica_id))
