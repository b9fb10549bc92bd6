"""Tables of what is trained: files, jobs, datasets, versions and their evaluations."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
    text,
)

from adapters.registry.sql.schema.declared import JSON, metadata, single_row

claims = single_row("claims", Column("value", Integer, nullable=False))
"""Counts the jobs that were claimed; its lock makes claims come one after another."""

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
    Column("expires_at", Float, index=True),
    sqlite_autoincrement=True,
)
"""A deleted file's row stays for a while without its name: lists go on after it."""

uploads = Table(
    "uploads",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("unit", String(40), nullable=False, index=True),
    Column("filename", String(1024), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("lifetime", Integer),
    Column("status", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False, index=True),
    Column("file_id", String(64)),
    sqlite_autoincrement=True,
)
"""One whose hour is over is expired, whatever its status."""

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("upload_id", ForeignKey("uploads.id"), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("upload_id", "digest"),
    sqlite_autoincrement=True,
)
"""Of pending uploads; they go with the end of theirs."""

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
    Column("hyperparameters", JSON, nullable=False),
    Column("metadata", JSON),
    Column("recipe", JSON),
    Column("dry_run", Boolean, nullable=False, server_default=text("false")),
    Column("resolved", JSON),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("estimated_finish", Float),
    Column("fine_tuned_model", String(64)),
    Column("trained_tokens", BigInteger),
    Column("result_files", JSON, nullable=False),
    Column("error", JSON),
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
    Column("data", JSON),
    sqlite_autoincrement=True,
)

job_checkpoints = Table(
    "job_checkpoints",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("step", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
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

data_keys = Table(
    "data_keys",
    metadata,
    Column("unit", String(40), primary_key=True),
    Column("key", LargeBinary, nullable=False),
    Column("made_at", Float, nullable=False),
)
"""With which a unit's pseudonyms and erased terms are made."""

erased_terms = Table(
    "erased_terms",
    metadata,
    Column("unit", String(40), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("words", Integer, nullable=False),
    Column("erased_at", Float, nullable=False),
)
"""Digests under the unit's key, never texts. They are kept for ever: a record may come again."""

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
    Column("gates", JSON, nullable=False),
    Column("evidence", JSON),
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

version_permissions = Table(
    "version_permissions",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False),
    Column("unit", String(40), nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("version_id", "unit"),
    sqlite_autoincrement=True,
)
"""Other units that may be answered by a version."""

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
    Column("conditions", JSON, nullable=False),
    Column("scores", JSON, nullable=False),
    Column("job_id", ForeignKey("jobs.id")),
    UniqueConstraint("job_id", "subject", "scorer", "part", "dataset"),
    Index("ix_evaluations_adapter_subject", "adapter", "subject"),
    CheckConstraint("(version_id IS NULL) = (subject = 'base')", name="subject"),
    sqlite_autoincrement=True,
)
"""Row ids and numbers, never texts. The subject is the base or a version."""

condemned = Table(
    "condemned",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("at", Float, nullable=False),
)
"""Digests whose bytes are being deleted."""
