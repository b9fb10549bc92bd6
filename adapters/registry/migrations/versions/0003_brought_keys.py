"""Which keys were brought, and which pepper is under their hashes: replicas share both.

Only adds: it may run beside processes of the build before it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No key from before counts as brought until it is brought again."""
    op.add_column(
        "keys",
        sa.Column("brought", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_table(
        "pepper",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_pepper_single_row")),
        sa.PrimaryKeyConstraint("id", name="pk_pepper"),
    )
