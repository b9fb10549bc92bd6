"""Which part each question of an adapter belongs to, what jobs were trained on, whose seed it is.

Only adds: it may run beside processes of the build before it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs from before count as having asked for their seed."""
    op.add_column(
        "jobs",
        sa.Column("seed_drawn", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_table(
        "dataset_questions",
        sa.Column("adapter", sa.String(length=40), nullable=False),
        sa.Column("question", sa.LargeBinary(), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("decided_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("adapter", "question", name="pk_dataset_questions"),
    )
    op.create_table(
        "datasets",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_datasets_job_id_jobs"),
        sa.PrimaryKeyConstraint("job_id", name="pk_datasets"),
    )
