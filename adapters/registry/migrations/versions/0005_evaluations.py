"""Evaluations: what scorers gave models on the examples of a test part.

Only adds: it may run beside processes of the build before it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Versions from before have none: the numbers of their gates stay with them."""
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("unit", sa.String(length=40), nullable=False),
        sa.Column("adapter", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=True),
        sa.Column("base_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("dataset", sa.String(length=64), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("scorer", sa.String(length=32), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("conditions", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("scores", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.CheckConstraint(
            "(version_id IS NULL) = (subject = 'base')", name=op.f("ck_evaluations_subject")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_evaluations_job_id_jobs"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name="fk_evaluations_version_id_versions"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
        sa.UniqueConstraint(
            "job_id",
            "subject",
            "scorer",
            "part",
            "dataset",
            name="uq_evaluations_job_id_subject_scorer_part_dataset",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_evaluations_adapter_subject", "evaluations", ["adapter", "subject"])
    op.create_index("ix_evaluations_version_id", "evaluations", ["version_id"])
