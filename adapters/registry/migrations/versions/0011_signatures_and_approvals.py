"""Versions' signatures, and what people say of versions that wait for a second person.

Only adds: it may run beside processes of the build before it, which sign nothing and ask for
nobody's approval.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What was published before has no signature until somebody adopts it."""
    op.add_column("versions", sa.Column("signature", sa.String(length=128), nullable=True))
    op.create_table(
        "approvals",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name="fk_approvals_version_id_versions"
        ),
        sa.PrimaryKeyConstraint("version_id", "actor", name="pk_approvals"),
    )
