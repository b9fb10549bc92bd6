"""The registry's tables, and the rules the database itself enforces.

What must hold however many processes write is a constraint here: numbers are unique per adapter,
a job publishes once, an alias has one rollout under way, an idempotency key makes one job. The
tables are made by `adapters.registry.migrations`; a test holds the two together.

`revision` on keys, versions and routes is the registry's revision at which replicas were told of
the row's last change: what a replica has not seen is found by an index, however many rows there
are.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_JSON = JSON(none_as_null=True)


def _single_row(name: str, *columns: Column[Any]) -> Table:
    """A table of one row at most, to keep and to lock one value of the whole registry."""
    return Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        *columns,
        CheckConstraint("id = 1", name="single_row"),
    )


revision = _single_row("revision", Column("value", Integer, nullable=False))

claims = _single_row("claims", Column("value", Integer, nullable=False))
"""Counts the jobs that were claimed; its lock makes claims come one after another."""

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("incarnation", String(64), nullable=False),
    Column("base_fingerprint", String(64), nullable=False),
    Column("limits", _JSON, nullable=False),
    Column("on_loss", String(8), nullable=False),
)

replica_processes = Table(
    "replica_processes",
    metadata,
    Column("replica", ForeignKey("replicas.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("incarnation", String(64), nullable=False),
    Column("ready", Boolean, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("lease_until", Float),
    Column("observed", Integer),
)

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
    Column("scopes", _JSON),
    Column("aliases", _JSON),
    Column("expires_at", Float),
    Column("created_by", String(64)),
    Column("idempotency_key", String(256)),
    Column("words", String(64)),
    Column("last_used_at", Float),
    Index("uq_keys_created_by_idempotency_key", "created_by", "idempotency_key", unique=True),
    sqlite_autoincrement=True,
)
"""Without `scopes` a key has all that its role may have; `words` is the digest of what was asked
for under the idempotency key."""

pepper = _single_row("pepper", Column("fingerprint", String(64), nullable=False))
"""What tells the pepper under the keys' hashes from another one; it says nothing of the pepper."""

files = Table(
    "files",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("unit", String(40), nullable=False, index=True),
    Column("filename", String(1024), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
    sqlite_autoincrement=True,
)
"""A deleted file's row stays for a while without its name: lists go on after it."""

jobs = Table(
    "jobs",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("unit", String(40), nullable=False, index=True),
    Column("adapter", String(40), nullable=False),
    Column("model", String(256), nullable=False),
    Column("training_file", String(64), nullable=False),
    Column("validation_file", String(64)),
    Column("status", String(24), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("seed_drawn", Boolean, nullable=False, server_default=text("false")),
    Column("suffix", String(64)),
    Column("hyperparameters", _JSON, nullable=False),
    Column("metadata", _JSON),
    Column("resolved", _JSON),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("estimated_finish", Float),
    Column("fine_tuned_model", String(64)),
    Column("trained_tokens", BigInteger),
    Column("result_files", _JSON, nullable=False),
    Column("error", _JSON),
    Column("stop_requested", String(16)),
    Column("lease_owner", String(128)),
    Column("lease_fence", Integer),
    Column("lease_until", Float),
    Column("attempts", Integer, nullable=False),
    Column("idempotency_key", String(256)),
    Column("words", String(64)),
    Column("turn", Integer),
    UniqueConstraint("unit", "idempotency_key"),
    Index("ix_jobs_unit_turn", "unit", "turn"),
    CheckConstraint(
        "(lease_owner IS NULL) = (lease_fence IS NULL)"
        " AND (lease_owner IS NULL) = (lease_until IS NULL)",
        name="lease_whole",
    ),
    CheckConstraint("lease_owner IS NULL OR status = 'running'", name="lease_running"),
    sqlite_autoincrement=True,
)
"""`words` is the digest of what was asked for under the idempotency key, `turn` the number of the
last claim."""

job_metadata = Table(
    "job_metadata",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(512), nullable=False),
)
"""The same pairs as `jobs.metadata`, to filter by: a caller's key never becomes a JSON path."""

job_events = Table(
    "job_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("level", String(8), nullable=False),
    Column("type", String(32), nullable=False),
    Column("message", String, nullable=False),
    Column("data", _JSON),
    sqlite_autoincrement=True,
)

job_checkpoints = Table(
    "job_checkpoints",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("step", Integer, nullable=False),
    Column("metrics", _JSON, nullable=False),
    UniqueConstraint("job_id", "step"),
    sqlite_autoincrement=True,
)

dataset_questions = Table(
    "dataset_questions",
    metadata,
    Column("adapter", String(40), primary_key=True),
    Column("question", LargeBinary, primary_key=True),
    Column("part", String(16), nullable=False),
    Column("decided_at", Float, nullable=False),
)
"""Digests of what an adapter was taught and is measured by, never texts: the first decision stays.
"""

datasets = Table(
    "datasets",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("digest", String(64), nullable=False),
)
"""The artifact that a job was trained on."""

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter", String(40), nullable=False),
    Column("number", Integer, nullable=False),
    Column("unit", String(40), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("base_fingerprint", String(64), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("job_id", ForeignKey("jobs.id"), unique=True),
    Column("created_at", Float, nullable=False),
    Column("gates", _JSON, nullable=False),
    Column("evidence", _JSON),
    Column("rolled_back_at", Float),
    Column("withdrawn_at", Float),
    Column("withdrawn_by", String(64)),
    Column("collected_at", Float),
    Column("pinned_at", Float),
    Column("signature", String(128)),
    Column("revision", Integer, nullable=False, server_default=text("0"), index=True),
    UniqueConstraint("adapter", "number"),
    sqlite_autoincrement=True,
)
"""Ids are the engine's `lora_int_id`: AUTOINCREMENT, because one must never come back."""

approvals = Table(
    "approvals",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("actor", String(128), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("reason", String(500)),
    Column("at", Float, nullable=False),
)
"""What each person last said of a version."""

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("unit", String(40), nullable=False),
    Column("adapter", String(40), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("version_id", ForeignKey("versions.id"), index=True),
    Column("base_fingerprint", String(64), nullable=False),
    Column("dataset", String(64), nullable=False),
    Column("part", String(16), nullable=False),
    Column("scorer", String(32), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("conditions", _JSON, nullable=False),
    Column("scores", _JSON, nullable=False),
    Column("job_id", ForeignKey("jobs.id")),
    UniqueConstraint("job_id", "subject", "scorer", "part", "dataset"),
    Index("ix_evaluations_adapter_subject", "adapter", "subject"),
    CheckConstraint("(version_id IS NULL) = (subject = 'base')", name="subject"),
    sqlite_autoincrement=True,
)
"""Row ids and numbers, never texts. The subject is the base or a version."""

acknowledgements = Table(
    "acknowledgements",
    metadata,
    Column("replica", ForeignKey("replicas.id", ondelete="CASCADE"), primary_key=True),
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("error", String),
)
"""What an engine holds, or why it cannot."""

routes = Table(
    "routes",
    metadata,
    Column("alias", String(40), primary_key=True),
    Column("unit", String(40), nullable=False),
    Column("stable", ForeignKey("versions.id"), index=True),
    Column("generation", Integer, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("since", Integer, nullable=False, server_default=text("0")),
    Column("revision", Integer, nullable=False, server_default=text("0"), index=True),
    Column("canary", ForeignKey("versions.id")),
    Column("canary_weight", Float),
    Column("canary_rollout", Integer),
    Column("shadow", ForeignKey("versions.id")),
    Column("shadow_share", Float),
    Column("shadow_rollout", Integer),
    CheckConstraint(
        "(canary IS NULL) = (canary_weight IS NULL)"
        " AND (canary IS NULL) = (canary_rollout IS NULL)",
        name="canary_whole",
    ),
    CheckConstraint(
        "(shadow IS NULL) = (shadow_share IS NULL) AND (shadow IS NULL) = (shadow_rollout IS NULL)",
        name="shadow_whole",
    ),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("alias", String(40), nullable=False, index=True),
    Column("action", String(16), nullable=False),
    Column("target", ForeignKey("versions.id"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("error", String),
    Column("unit", String(40), nullable=False),
    Column("replaced", ForeignKey("versions.id")),
    Column("flipped_at", Float),
    Column("flip_revision", Integer),
    Column("weight", Float),
    Column("reason", String(500)),
    sqlite_autoincrement=True,
)
_IS_LOADING = text("state = 'loading'")
_IS_OPEN = text("state IN ('loading', 'flipped')")
Index(
    "uq_rollouts_loading",
    rollouts.c.alias,
    unique=True,
    sqlite_where=_IS_LOADING,
    postgresql_where=_IS_LOADING,
)
Index("ix_rollouts_open", rollouts.c.id, sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN)

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
    Column("before", _JSON),
    Column("after", _JSON),
    Column("reason", String(500)),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("ix_audit_unit_seq", "unit", "seq"),
    Index("ix_audit_subject_seq", "subject", "seq"),
)
"""Triggers refuse to change or delete a row; see the migration that makes the table."""

audit_head = _single_row(
    "audit_head",
    Column("seq", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
)
"""The newest entry's number and hash; its lock makes entries come one after another."""

canaries = Table(
    "canaries",
    metadata,
    Column("rollout", ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    Column("alias", String(40), nullable=False, index=True),
    Column("unit", String(40), nullable=False),
    Column("version", ForeignKey("versions.id"), nullable=False),
    Column("plan", _JSON, nullable=False),
    Column("step", Integer, nullable=False),
    Column("stepped_at", Float),
    Column("judged_at", Float),
    Column("evidence", _JSON, nullable=False),
    Column("told", String),
    Column("outcome", String(16)),
    Column("reason", String),
    Column("ended_at", Float),
)
"""One that runs is named by its route's `canary_rollout`."""

outcome_counts = Table(
    "outcome_counts",
    metadata,
    Column("rollout", ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("replica", String(128), primary_key=True),
    Column("incarnation", String(64), primary_key=True),
    Column("process", Integer, primary_key=True, autoincrement=False),
    Column("counts", _JSON, nullable=False),
)
"""What each process has counted of a canary's or a shadow's arms since that began. They stay when
the process ends."""

scores = Table(
    "scores",
    metadata,
    Column("rollout", ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    Column("id", String(128), primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False),
    Column("value", Float, nullable=False),
)
"""What something outside says of answers, once each."""

condemned = Table(
    "condemned",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("at", Float, nullable=False),
)
"""Digests whose bytes are being deleted."""

quota_turn = _single_row("quota_turn", Column("value", Integer, nullable=False))
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
