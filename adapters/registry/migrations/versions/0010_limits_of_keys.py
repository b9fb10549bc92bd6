"""Keys with limits of their own.

Only adds: it may run beside processes of the build before it. Those do not know of the limits, so a
key's hold in every replica once every replica runs this build.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keys from before have none but their unit's."""
    op.add_column("keys", sa.Column("limits", sa.JSON(none_as_null=True), nullable=True))
