"""API keys in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, Connection, delete, insert, select, true, update

from adapters.domain import audit_facts
from adapters.domain.audit import Action
from adapters.domain.principals import SYSTEM, Key, NewKey, Principal
from adapters.errors import Conflict
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.queries import (
    SqlPort,
    all_of,
    bump_revision,
    first_of,
    lock_revision,
    one,
)

SUCCESSOR_BROUGHT = "another key was brought for its owner"


class SqlKeys(SqlPort):
    """Implements `Keys`."""

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
            return [_enter(connection, key, at=at, revision=revision) for key in keys]

    def bring(self, key: NewKey) -> Key:
        """Enters a key that an operator brings, and ends those brought for its owner before it.

        An owner is a role and its unit. A hash that is known answers with its record: one that is
        revoked, or is another owner's, ends nothing. Bumps the revision where something changes.
        """
        table = schema.keys
        with self._database.write() as connection:
            lock_revision(connection)
            at = self._database.now(connection)
            query = select(table).where(table.c.hash == key.hash)
            record = first_of(connection, query, rows.key_from)
            if record is None:
                record = _enter(connection, key, at=at, revision=bump_revision(connection))
            elif record.revoked_at is not None or not _same_owner(record, key):
                return record
            itself = table.c.id == record.id
            connection.execute(update(table).where(itself).values(brought=True))
            before = table.c.brought & (table.c.role == key.role.value) & (table.c.unit == key.unit)
            _revoke(connection, before & ~itself, at=at, by=SYSTEM, reason=SUCCESSOR_BROUGHT)
            return record

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

    def revoke(self, key_id: str, *, by: Principal, reason: str | None = None) -> Key:
        """Ends a key; one that was revoked before keeps its first time. Raises NotFound."""
        table = schema.keys
        with self._database.write() as connection:
            lock_revision(connection)
            query = select(table).where(table.c.id == key_id)
            key = rows.key_from(one(connection, query, "no such key"))
            if key.revoked_at is not None:
                return key
            at = self._database.now(connection)
            _revoke(connection, table.c.id == key_id, at=at, by=by, reason=reason)
            return replace(key, revoked_at=at)

    def check_pepper(self, fingerprint: str) -> None:
        """The first fingerprint is kept. Raises Conflict (`pepper_changed`) for another one."""
        table = schema.pepper
        with self._database.write() as connection:
            lock_revision(connection)
            known = connection.execute(select(table.c.fingerprint)).scalar_one_or_none()
            if known is None:
                connection.execute(insert(table).values(id=1, fingerprint=fingerprint))
            elif known != fingerprint:
                raise Conflict(
                    "the registry's keys were made with another pepper; bring that one "
                    "(WARDROBE_PEPPER_FILE), or end all keys with `wardrobe keys reset`",
                    code="pepper_changed",
                )

    def reset(self, *, by: Principal, reason: str | None = None) -> int:
        """Revokes every key and forgets the pepper; how many were in force."""
        with self._database.write() as connection:
            lock_revision(connection)
            connection.execute(delete(schema.pepper))
            at = self._database.now(connection)
            ended = _revoke(connection, true(), at=at, by=by, reason=reason)
            facts = {"revoked": ended}
            append(
                connection,
                by,
                Action.KEYS_RESET,
                "keys",
                at=at,
                unit=None,
                after=facts,
                reason=reason,
            )
            return ended


def _enter(connection: Connection, key: NewKey, *, at: float, revision: int) -> Key:
    values = {**rows.key_values(key), "created_at": at, "revoked_at": None, "revision": revision}
    connection.execute(insert(schema.keys).values(values))
    facts = audit_facts.of_key(key)
    append(
        connection,
        SYSTEM,
        Action.KEY_CREATED,
        f"key/{key.id}",
        at=at,
        unit=key.unit,
        after=facts,
    )
    return Key(**vars(key), created_at=at)


def _same_owner(record: Key, key: NewKey) -> bool:
    return (record.role, record.unit) == (key.role, key.unit)


def _revoke(
    connection: Connection,
    which: ColumnElement[bool],
    *,
    at: float,
    by: Principal,
    reason: str | None = None,
) -> int:
    """Revokes those that are in force; how many those were."""
    table = schema.keys
    ending = which & table.c.revoked_at.is_(None)
    keys = all_of(connection, select(table).where(ending).order_by(table.c.seq), rows.key_from)
    if not keys:
        return 0
    values = {"revoked_at": at, "revoked_by": by.id, "revision": bump_revision(connection)}
    connection.execute(update(table).where(ending).values(values))
    for key in keys:
        facts = audit_facts.of_key(key)
        subject, action = f"key/{key.id}", Action.KEY_REVOKED
        append(connection, by, action, subject, at=at, unit=key.unit, before=facts, reason=reason)
    return len(keys)
