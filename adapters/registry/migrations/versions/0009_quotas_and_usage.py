"""Replicas' shares of quotas, and usage by day.

Only adds: it may run beside processes of the build before it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of what was used before, nothing is known."""
    turn = op.create_table(
        "quota_turn",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_quota_turn_single_row")),
        sa.PrimaryKeyConstraint("id", name="pk_quota_turn"),
    )
    op.bulk_insert(turn, [{"id": 1, "value": 0}])
    op.create_table(
        "quota_shares",
        sa.Column("account", sa.String(length=128), nullable=False),
        sa.Column("quota", sa.String(length=24), nullable=False),
        sa.Column("period", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("replica", sa.String(length=128), nullable=False),
        sa.Column("incarnation", sa.String(length=64), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("wanted", sa.BigInteger(), nullable=False),
        sa.Column("share", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint(
            "account", "quota", "period", "replica", "incarnation", name="pk_quota_shares"
        ),
    )
    op.create_index("ix_quota_shares_seen_at", "quota_shares", ["seen_at"])
    op.create_table(
        "usage",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("unit", sa.String(length=40), nullable=False),
        sa.Column("alias", sa.String(length=256), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("traffic", sa.String(length=16), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "unit", "alias", "version", "traffic", name="pk_usage"),
    )
    op.create_table(
        "usage_writers",
        sa.Column("writer", sa.String(length=256), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("writer", name="pk_usage_writers"),
    )
