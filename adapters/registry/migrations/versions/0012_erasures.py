"""Units' data keys, and what was erased.

Only adds: it may run beside processes of the build before it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keys are made when they are first needed."""
    op.create_table(
        "data_keys",
        sa.Column("unit", sa.String(length=40), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("unit", name="pk_data_keys"),
    )
    op.create_table(
        "erased_terms",
        sa.Column("unit", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("words", sa.Integer(), nullable=False),
        sa.Column("erased_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("unit", "digest", name="pk_erased_terms"),
    )
