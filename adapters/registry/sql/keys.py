"""API keys in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import (
    delete,
    insert,
    or_,
    select,
    true,
    update,
)

from adapters.domain import audit_facts
from adapters.domain.api_keys import Key, NewKey
from adapters.domain.audit import Action
from adapters.domain.pages import Page
from adapters.domain.principals import SYSTEM, Principal
from adapters.errors import Conflict, NotPermitted
from adapters.registry.sql import key_rows, rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.queries import (
    SqlPort,
    all_of,
    bump_revision,
    first_of,
    lock_revision,
    one,
    page,
)

SUCCESSOR_BROUGHT = "another key was brought for its owner"
_HOUR_S = 3600.0


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
            return [key_rows.enter(connection, key, at=at, revision=revision) for key in keys]

    def bring(self, key: NewKey) -> Key:
        """Enters a key that an operator brings, and ends those brought for its owner before it.

        An owner is a role, its unit and a name. A hash that is known answers with its record: one
        that is revoked, or is another owner's, ends nothing. Bumps the revision where something
        changes.
        """
        table = schema.keys
        with self._database.write() as connection:
            lock_revision(connection)
            at = self._database.now(connection)
            query = select(table).where(table.c.hash == key.hash)
            record = first_of(connection, query, rows.key_from)
            if record is None:
                record = key_rows.enter(connection, key, at=at, revision=bump_revision(connection))
            elif record.revoked_at is not None or record.owner != key.owner:
                return record
            itself, before = table.c.id == record.id, key_rows.owned_by(key)
            if key.name is None:
                # a build before names would take a named one for the role's own, and end it
                connection.execute(update(table).where(itself).values(brought=True))
                before &= table.c.brought
            key_rows.revoke(
                connection, before & ~itself, at=at, by=SYSTEM, reason=SUCCESSOR_BROUGHT
            )
            return record

    def issue(self, key: NewKey, *, by: Principal, idempotency_key: str | None) -> Key:
        """Enters a key for a named holder, or finds the one issued first under the same words.

        Raises NotPermitted, Conflict (`too_many_keys`, `idempotency_key_reused`).
        """
        _check_administers(by)
        words = key_rows.words("issue", key, expires_in=key.expires_in)
        with self._database.write() as connection:
            lock_revision(connection)
            first = key_rows.first_with(connection, by, idempotency_key, words)
            if first is not None:
                return first
            at = self._database.now(connection)
            return key_rows.enter_beside(
                connection, key, at=at, by=by, asked=(idempotency_key, words)
            )

    def rotate(
        self,
        key_id: str,
        successor: NewKey,
        *,
        overlap_s: float,
        by: Principal,
        idempotency_key: str | None,
    ) -> Key:
        """Enters the key that follows another, which expires `overlap_s` later.

        Raises NotFound, NotPermitted, Conflict (`key_ended`, `key_not_rotatable`,
        `too_many_keys`, `idempotency_key_reused`).
        """
        _check_administers(by)
        table = schema.keys
        words = key_rows.words("rotate", successor, key_id=key_id, overlap_s=overlap_s)
        with self._database.write() as connection:
            lock_revision(connection)
            first = key_rows.first_with(connection, by, idempotency_key, words)
            if first is not None:
                return first
            query = select(table).where(table.c.id == key_id)
            old = rows.key_from(one(connection, query, key_rows.MISSING))
            at = self._database.now(connection)
            _check_rotatable(old, at)
            asked = (idempotency_key, words)
            made = key_rows.enter_beside(connection, successor, at=at, by=by, asked=asked)
            ends = at + overlap_s if old.expires_at is None else min(old.expires_at, at + overlap_s)
            values = {"expires_at": ends, "revision": bump_revision(connection)}
            connection.execute(update(table).where(table.c.id == key_id).values(values))
            append(
                connection,
                by,
                Action.KEY_ROTATED,
                f"key/{key_id}",
                at=at,
                unit=old.unit,
                before=audit_facts.of_key(old),
                after={
                    **audit_facts.of_key(replace(old, expires_at=ends)),
                    "successor": made.id,
                },
            )
            return made

    def find(self, key_hash: str) -> Key | None:
        """The key of this hash, revoked or not."""
        query = select(schema.keys).where(schema.keys.c.hash == key_hash)
        with self._database.read() as connection:
            return first_of(connection, query, rows.key_from)

    def get(self, key_id: str) -> Key:
        """The key of this id, in force or not. Raises NotFound."""
        query = select(schema.keys).where(schema.keys.c.id == key_id)
        with self._database.read() as connection:
            return rows.key_from(one(connection, query, key_rows.MISSING))

    def active(self) -> Sequence[Key]:
        """Those in force, oldest first."""
        with self._database.read() as connection:
            query = key_rows.in_force(self._database.now(connection)).order_by(schema.keys.c.seq)
            return all_of(connection, query, rows.key_from)

    def list(self, *, after: str | None, limit: int) -> Page[Key]:
        """Those in force, newest first. `after` is a key's id, also of one that has ended."""
        seq = schema.keys.c.seq
        with self._database.read() as connection:
            query = key_rows.in_force(self._database.now(connection)).order_by(seq.desc())
            if after is not None:
                cursor = select(seq).where(schema.keys.c.id == after)
                missing = "no such key to go on after"
                query = query.where(seq < one(connection, cursor, missing, param="after")["seq"])
            return page(connection, query, rows.key_from, limit)

    def revoke(self, key_id: str, *, by: Principal, reason: str | None = None) -> Key:
        """Ends a key; one that was revoked before keeps its first time. Raises NotFound."""
        _check_administers(by)
        table = schema.keys
        with self._database.write() as connection:
            lock_revision(connection)
            query = select(table).where(table.c.id == key_id)
            key = rows.key_from(one(connection, query, key_rows.MISSING))
            if key.revoked_at is not None:
                return key
            at = self._database.now(connection)
            key_rows.revoke(connection, table.c.id == key_id, at=at, by=by, reason=reason)
            return replace(key, revoked_at=at)

    def note_used(self, key_ids: Sequence[str]) -> None:
        """Notes that these were used within the hour; no replica routes by it."""
        table = schema.keys
        with self._database.write() as connection:
            hour = self._database.now(connection) // _HOUR_S * _HOUR_S
            older = or_(table.c.last_used_at.is_(None), table.c.last_used_at < hour)
            used = table.c.id.in_(sorted(key_ids)) & older
            connection.execute(update(table).where(used).values(last_used_at=hour))

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
        _check_administers(by)
        with self._database.write() as connection:
            lock_revision(connection)
            connection.execute(delete(schema.pepper))
            at = self._database.now(connection)
            ended = key_rows.revoke(connection, true(), at=at, by=by, reason=reason)
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


def _check_administers(by: Principal) -> None:
    if not by.sees_every_unit:
        raise NotPermitted("keys are the admin's to give and to end")


def _check_rotatable(key: Key, now: float) -> None:
    if not key.in_force(now):
        raise Conflict("this key has ended; make another one", code="key_ended")
    if not key.issued:
        raise Conflict(
            "this key was brought, or is kept by the service since its start: it is rotated where "
            "it stands, as docs/how-to.md says",
            code="key_not_rotatable",
        )
