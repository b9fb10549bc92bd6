"""API keys in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from adapters.domain import audit_facts
from adapters.domain.api_keys import MAX_LIVE, Key, NewKey
from adapters.domain.audit import Action
from adapters.domain.pages import Page
from adapters.domain.principals import SYSTEM, Principal
from adapters.errors import Conflict, NotPermitted
from adapters.hashing import sha256_bytes
from adapters.registry.sql import rows, schema
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
_MISSING = "no such key"
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
            return [_enter(connection, key, at=at, revision=revision) for key in keys]

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
                record = _enter(connection, key, at=at, revision=bump_revision(connection))
            elif record.revoked_at is not None or record.owner != key.owner:
                return record
            itself, before = table.c.id == record.id, _owned_by(key)
            if key.name is None:
                # a build before names would take a named one for the role's own, and end it
                connection.execute(update(table).where(itself).values(brought=True))
                before &= table.c.brought
            _revoke(connection, before & ~itself, at=at, by=SYSTEM, reason=SUCCESSOR_BROUGHT)
            return record

    def issue(self, key: NewKey, *, by: Principal, idempotency_key: str | None) -> Key:
        """Enters a key for a named holder, or finds the one issued first under the same words.

        Raises NotPermitted, Conflict (`too_many_keys`, `idempotency_key_reused`).
        """
        _check_administers(by)
        words = _words("issue", key, expires_in=key.expires_in)
        with self._database.write() as connection:
            lock_revision(connection)
            first = _first_with(connection, by, idempotency_key, words)
            if first is not None:
                return first
            at = self._database.now(connection)
            return _enter_beside(connection, key, at=at, by=by, asked=(idempotency_key, words))

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
        words = _words("rotate", successor, key_id=key_id, overlap_s=overlap_s)
        with self._database.write() as connection:
            lock_revision(connection)
            first = _first_with(connection, by, idempotency_key, words)
            if first is not None:
                return first
            query = select(table).where(table.c.id == key_id)
            old = rows.key_from(one(connection, query, _MISSING))
            at = self._database.now(connection)
            _check_rotatable(old, at)
            asked = (idempotency_key, words)
            made = _enter_beside(connection, successor, at=at, by=by, asked=asked)
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
            return rows.key_from(one(connection, query, _MISSING))

    def active(self) -> Sequence[Key]:
        """Those in force, oldest first."""
        with self._database.read() as connection:
            query = _in_force(self._database.now(connection)).order_by(schema.keys.c.seq)
            return all_of(connection, query, rows.key_from)

    def list(self, *, after: str | None, limit: int) -> Page[Key]:
        """Those in force, newest first. `after` is a key's id, also of one that has ended."""
        seq = schema.keys.c.seq
        with self._database.read() as connection:
            query = _in_force(self._database.now(connection)).order_by(seq.desc())
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
            key = rows.key_from(one(connection, query, _MISSING))
            if key.revoked_at is not None:
                return key
            at = self._database.now(connection)
            _revoke(connection, table.c.id == key_id, at=at, by=by, reason=reason)
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


def _words(command: str, key: NewKey, **more: object) -> str:
    """The digest of what was asked for; id and hash are drawn, so they are no part of it."""
    values = rows.key_values(key) | more
    # a build before limits digested none
    left_out = ("id", "hash", "limits") if values["limits"] is None else ("id", "hash")
    said = {name: value for name, value in values.items() if name not in left_out}
    return sha256_bytes(json.dumps([command, said], sort_keys=True).encode())


def _first_with(
    connection: Connection, by: Principal, idempotency_key: str | None, words: str
) -> Key | None:
    """What was issued under the key before. Raises Conflict where other words were said."""
    if idempotency_key is None:
        return None
    table = schema.keys
    query = select(table).where(
        table.c.created_by == by.id, table.c.idempotency_key == idempotency_key
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is not None and row["words"] != words:
        raise Conflict(
            "this idempotency key was used before, for another command",
            code="idempotency_key_reused",
        )
    return None if row is None else rows.key_from(row)


def _in_force(now: float) -> Select[tuple[object, ...]]:
    table = schema.keys
    return select(table).where(table.c.revoked_at.is_(None), _not_expired(now))


def _not_expired(now: float) -> ColumnElement[bool]:
    expires_at = schema.keys.c.expires_at
    return or_(expires_at.is_(None), expires_at > now)


def _owned_by(key: NewKey) -> ColumnElement[bool]:
    table = schema.keys.c
    return (table.role == key.role.value) & (table.unit == key.unit) & (table.name == key.name)


def _enter_beside(
    connection: Connection,
    key: NewKey,
    *,
    at: float,
    by: Principal,
    asked: tuple[str | None, str],
) -> Key:
    """Enters one more of the owner's. Raises Conflict (`too_many_keys`)."""
    live = schema.keys.c.revoked_at.is_(None) & _not_expired(at) & _owned_by(key)
    count = connection.execute(select(func.count()).select_from(schema.keys).where(live))
    if count.scalar_one() >= MAX_LIVE:
        raise Conflict(
            f"`{key.name}` has {MAX_LIVE} keys in force, as many as a rotation needs; revoke one "
            "of them, or choose another name",
            code="too_many_keys",
        )
    made = _enter(connection, key, at=at, revision=bump_revision(connection), by=by)
    values = dict(zip(("idempotency_key", "words"), asked, strict=True))
    connection.execute(update(schema.keys).where(schema.keys.c.id == key.id).values(values))
    return made


def _enter(
    connection: Connection, key: NewKey, *, at: float, revision: int, by: Principal = SYSTEM
) -> Key:
    values = rows.key_values(key) | {
        "created_at": at,
        "created_by": by.id,
        "expires_at": None if key.expires_in is None else at + key.expires_in,
        "revoked_at": None,
        "revision": revision,
    }
    connection.execute(insert(schema.keys).values(values))
    query = select(schema.keys).where(schema.keys.c.id == key.id)
    made = rows.key_from(one(connection, query, _MISSING))
    facts = audit_facts.of_key(made)
    subject = f"key/{key.id}"
    append(connection, by, Action.KEY_CREATED, subject, at=at, unit=key.unit, after=facts)
    return made


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
