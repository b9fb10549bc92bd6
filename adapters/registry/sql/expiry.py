"""Forgets files whose time has come, unless a job that has not ended needs them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from adapters.domain.files import StoredFile
from adapters.registry.sql import rows, schema
from adapters.registry.sql.files import forget, in_use
from adapters.registry.sql.queries import all_of

_AT_ONCE = 500
"""Files of one round: a statement has so many parameters, and the next round is soon."""


def forget_expired_files(connection: Connection, *, now: float) -> Sequence[StoredFile]:
    """Those that are forgotten now, as they were; the caller audits them."""
    files = schema.files
    expired = select(files).where(files.c.deleted_at.is_(None), files.c.expires_at <= now)
    # one that a job is being created with is held, and left to the next round
    locked = expired.order_by(files.c.seq).limit(_AT_ONCE).with_for_update(skip_locked=True)
    found = all_of(connection, locked, rows.file_from)
    needed = in_use(connection, [file.id for file in found])
    gone = [file for file in found if file.id not in needed]
    forget(connection, [file.id for file in gone], at=now)
    return gone
