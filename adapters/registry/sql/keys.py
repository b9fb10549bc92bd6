"""API keys in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import insert, select, update

from adapters.domain.principals import Key, NewKey, Principal
from adapters.errors import Conflict
from adapters.registry.sql import rows, schema
from adapters.registry.sql.queries import (
    SqlPort,
    all_of,
    bump_revision,
    first_of,
    lock_revision,
    one,
)


class SqlKeys(SqlPort):
    """`Keys`."""

    def add(self, keys: Sequence[NewKey]) -> Sequence[Key]:
        """All or none; bumps the revision. Raises Conflict (`key_exists`) for a known hash."""
        if not keys:
            return []
        table = schema.keys
        hashes = [key.hash for key in keys]
        with self._database.write() as connection:
            lock_revision(connection)
            known = connection.execute(select(table.c.id).where(table.c.hash.in_(hashes)))
            if known.first() is not None or len(set(hashes)) < len(hashes):
                raise Conflict("one of these keys is there already", code="key_exists")
            revision, at = bump_revision(connection), self._database.now(connection)
            values = [
                {**rows.key_values(key), "created_at": at, "revoked_at": None, "revision": revision}
                for key in keys
            ]
            connection.execute(insert(table), values)
        return [
            Key(id=key.id, role=key.role, unit=key.unit, hash=key.hash, created_at=at)
            for key in keys
        ]

    def find(self, key_hash: str) -> Key | None:
        """The key of this hash, revoked or not."""
        query = select(schema.keys).where(schema.keys.c.hash == key_hash)
        with self._database.read() as connection:
            return first_of(connection, query, rows.key_from)

    def active(self) -> Sequence[Key]:
        """Those not revoked, oldest first."""
        table = schema.keys
        query = select(table).where(table.c.revoked_at.is_(None)).order_by(table.c.seq)
        with self._database.read() as connection:
            return all_of(connection, query, rows.key_from)

    def revoke(self, key_id: str, *, by: Principal) -> Key:
        """A key revoked before keeps its first time; bumps the revision. Raises NotFound."""
        table = schema.keys
        with self._database.write() as connection:
            lock_revision(connection)
            query = select(table).where(table.c.id == key_id)
            key = rows.key_from(one(connection, query, "no such key"))
            if key.revoked_at is not None:
                return key
            at = self._database.now(connection)
            connection.execute(
                update(table)
                .where(table.c.id == key_id)
                .values(revoked_at=at, revoked_by=by.id, revision=bump_revision(connection))
            )
            return replace(key, revoked_at=at)
