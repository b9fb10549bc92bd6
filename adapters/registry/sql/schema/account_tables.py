"""Tables of who asks: keys, the audit log, quotas and usage."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, String, Table, text

from adapters.registry.sql.schema.declared import JSON, metadata, single_row

pepper = single_row("pepper", Column("fingerprint", String(64), nullable=False))
"""What tells the pepper under the keys' hashes from another one; it says nothing of the pepper."""

keys = Table(
    "keys",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("unit", String(40)),
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
    Column("revoked_by", String(64)),
    Column("revision", Integer, nullable=False, server_default=text("0"), index=True),
    Column("brought", Boolean, nullable=False, server_default=text("false")),
    Column("hash_version", Integer, nullable=False, server_default=text("1")),
    Column("name", String(40)),
    Column("scopes", JSON),
    Column("aliases", JSON),
    Column("expires_at", Float),
    Column("created_by", String(64)),
    Column("idempotency_key", String(256)),
    Column("words", String(64)),
    Column("last_used_at", Float),
    Column("limits", JSON),
    Index("uq_keys_created_by_idempotency_key", "created_by", "idempotency_key", unique=True),
    sqlite_autoincrement=True,
)
"""Without `scopes` a key has all that its role may have; `words` is the digest of what was asked
for under the idempotency key."""

audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("unit", String(40)),
    Column("action", String(40), nullable=False),
    Column("subject", String(160), nullable=False),
    Column("before", JSON),
    Column("after", JSON),
    Column("reason", String(500)),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("ix_audit_unit_seq", "unit", "seq"),
    Index("ix_audit_subject_seq", "subject", "seq"),
)
"""Triggers refuse to change or delete a row; see the migration that makes the table."""

audit_head = single_row(
    "audit_head",
    Column("seq", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
)
"""The newest entry's number and hash; its lock makes entries come one after another."""

quota_turn = single_row("quota_turn", Column("value", Integer, nullable=False))
"""Its lock makes replicas ask for shares one after another."""

quota_shares = Table(
    "quota_shares",
    metadata,
    Column("account", String(128), primary_key=True),
    Column("quota", String(24), primary_key=True),
    Column("period", Integer, primary_key=True, autoincrement=False),
    Column("replica", String(128), primary_key=True),
    Column("incarnation", String(64), primary_key=True),
    Column("used", BigInteger, nullable=False),
    Column("wanted", BigInteger, nullable=False),
    Column("share", BigInteger, nullable=False),
    Column("seen_at", Float, nullable=False, index=True),
)
"""What each life of a replica has used of a quota, and may use."""

usage = Table(
    "usage",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("unit", String(40), primary_key=True),
    Column("alias", String(256), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("traffic", String(16), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
)
"""Days are those since 1970 (UTC), costs billionths of the currency."""

usage_writers = Table(
    "usage_writers",
    metadata,
    Column("writer", String(256), primary_key=True),
    Column("batch", BigInteger, nullable=False),
    Column("seen_at", Float, nullable=False),
)
"""The last batch that each life of a process has added to `usage`."""
