"""Canaries and shadows of routes, what is counted of them, and pinned versions.

Only adds: it may run beside processes of the build before it, which leave what they do not know as
it is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Routes from before have neither."""
    op.add_column("versions", sa.Column("pinned_at", sa.Float(), nullable=True))
    op.add_column("rollouts", sa.Column("weight", sa.Float(), nullable=True))
    op.add_column("rollouts", sa.Column("reason", sa.String(length=500), nullable=True))
    _routes()
    _canaries()
    _counts()


def _routes() -> None:
    # SQLite adds no column with a named reference: a new table
    with op.batch_alter_table("routes") as batch:
        for name, part in (("canary", "weight"), ("shadow", "share")):
            batch.add_column(sa.Column(name, sa.Integer(), nullable=True))
            batch.add_column(sa.Column(f"{name}_{part}", sa.Float(), nullable=True))
            batch.add_column(sa.Column(f"{name}_rollout", sa.Integer(), nullable=True))
            batch.create_foreign_key(f"fk_routes_{name}_versions", "versions", [name], ["id"])
            batch.create_check_constraint(
                op.f(f"ck_routes_{name}_whole"),
                f"({name} IS NULL) = ({name}_{part} IS NULL)"
                f" AND ({name} IS NULL) = ({name}_rollout IS NULL)",
            )


def _canaries() -> None:
    op.create_table(
        "canaries",
        sa.Column("rollout", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(length=40), nullable=False),
        sa.Column("unit", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("plan", _JSON, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("stepped_at", sa.Float(), nullable=True),
        sa.Column("judged_at", sa.Float(), nullable=True),
        sa.Column("evidence", _JSON, nullable=False),
        sa.Column("told", sa.String(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        _of_rollout("canaries"),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_canaries_version_versions"),
        sa.PrimaryKeyConstraint("rollout", name="pk_canaries"),
    )
    op.create_index("ix_canaries_alias", "canaries", ["alias"])


def _counts() -> None:
    op.create_table(
        "outcome_counts",
        sa.Column("rollout", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("replica", sa.String(length=128), nullable=False),
        sa.Column("incarnation", sa.String(length=64), nullable=False),
        sa.Column("process", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("counts", _JSON, nullable=False),
        _of_rollout("outcome_counts"),
        _of_version("outcome_counts"),
        sa.PrimaryKeyConstraint(
            "rollout",
            "version_id",
            "replica",
            "incarnation",
            "process",
            name="pk_outcome_counts",
        ),
    )
    op.create_table(
        "scores",
        sa.Column("rollout", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        _of_rollout("scores"),
        _of_version("scores"),
        sa.PrimaryKeyConstraint("rollout", "id", name="pk_scores"),
    )


def _of_rollout(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["rollout"], ["rollouts.id"], name=f"fk_{table}_rollout_rollouts", ondelete="CASCADE"
    )


def _of_version(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["version_id"], ["versions.id"], name=f"fk_{table}_version_id_versions"
    )
