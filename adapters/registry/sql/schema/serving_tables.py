"""Tables of what is served: replicas, routes, rollouts, canaries and shadows."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    text,
)

from adapters.registry.sql.schema.declared import JSON, metadata, single_row

revision = single_row("revision", Column("value", Integer, nullable=False))

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("incarnation", String(64), nullable=False),
    Column("base_fingerprint", String(64), nullable=False),
    Column("limits", JSON, nullable=False),
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

canaries = Table(
    "canaries",
    metadata,
    Column("rollout", ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    Column("alias", String(40), nullable=False, index=True),
    Column("unit", String(40), nullable=False),
    Column("version", ForeignKey("versions.id"), nullable=False),
    Column("plan", JSON, nullable=False),
    Column("step", Integer, nullable=False),
    Column("stepped_at", Float),
    Column("judged_at", Float),
    Column("evidence", JSON, nullable=False),
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
    Column("counts", JSON, nullable=False),
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
