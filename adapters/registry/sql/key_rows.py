"""Rows of API keys: how they are entered, found and revoked, within a caller's transaction."""

from __future__ import annotations

import json

from sqlalchemy import ColumnElement, Connection, Select, func, insert, or_, select, update

from adapters.domain import audit_facts
from adapters.domain.api_keys import MAX_LIVE, Key, NewKey
from adapters.domain.audit import Action
from adapters.domain.principals import SYSTEM, Principal
from adapters.errors import Conflict
from adapters.hashing import sha256_bytes
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.queries import all_of, bump_revision, one

MISSING = "no such key"


def words(command: str, key: NewKey, **more: object) -> str:
    """The digest of what was asked for; id and hash are drawn, so they are no part of it."""
    values = rows.key_values(key) | more
    # a build before limits digested none
    left_out = ("id", "hash", "limits") if values["limits"] is None else ("id", "hash")
    said = {name: value for name, value in values.items() if name not in left_out}
    return sha256_bytes(json.dumps([command, said], sort_keys=True).encode())


def first_with(
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


def in_force(now: float) -> Select[tuple[object, ...]]:
    table = schema.keys
    return select(table).where(table.c.revoked_at.is_(None), not_expired(now))


def not_expired(now: float) -> ColumnElement[bool]:
    expires_at = schema.keys.c.expires_at
    return or_(expires_at.is_(None), expires_at > now)


def owned_by(key: NewKey) -> ColumnElement[bool]:
    table = schema.keys.c
    return (table.role == key.role.value) & (table.unit == key.unit) & (table.name == key.name)


def enter_beside(
    connection: Connection,
    key: NewKey,
    *,
    at: float,
    by: Principal,
    asked: tuple[str | None, str],
) -> Key:
    """Enters one more of the owner's. Raises Conflict (`too_many_keys`)."""
    live = schema.keys.c.revoked_at.is_(None) & not_expired(at) & owned_by(key)
    count = connection.execute(select(func.count()).select_from(schema.keys).where(live))
    if count.scalar_one() >= MAX_LIVE:
        raise Conflict(
            f"`{key.name}` has {MAX_LIVE} keys in force, as many as a rotation needs; revoke one "
            "of them, or choose another name",
            code="too_many_keys",
        )
    made = enter(connection, key, at=at, revision=bump_revision(connection), by=by)
    values = dict(zip(("idempotency_key", "words"), asked, strict=True))
    connection.execute(update(schema.keys).where(schema.keys.c.id == key.id).values(values))
    return made


def enter(
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
    made = rows.key_from(one(connection, query, MISSING))
    facts = audit_facts.of_key(made)
    subject = f"key/{key.id}"
    append(connection, by, Action.KEY_CREATED, subject, at=at, unit=key.unit, after=facts)
    return made


def revoke(
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
