"""Keys with a holder, scopes, an end and a version of their hash.

Only adds: it may run beside processes of the build before it. Those know no key that is made with
the second version of the hash, so that none of them takes a scoped key for a whole one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keys from before keep all that their role may have, and never expire."""
    for column in (
        sa.Column("hash_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=True),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("aliases", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("created_by", sa.String(length=64), nullable=True),
        sa.Column("idempotency_key", sa.String(length=256), nullable=True),
        sa.Column("words", sa.String(length=64), nullable=True),
        sa.Column("last_used_at", sa.Float(), nullable=True),
    ):
        op.add_column("keys", column)
    op.create_index(
        "uq_keys_created_by_idempotency_key",
        "keys",
        ["created_by", "idempotency_key"],
        unique=True,
    )
