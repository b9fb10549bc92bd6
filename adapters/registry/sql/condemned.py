"""Refuses to name digests whose bytes are being deleted."""

from __future__ import annotations

from sqlalchemy import Connection, select

from adapters.domain.names import Digest
from adapters.errors import Condemned
from adapters.registry.sql import schema

CONDEMNED_SECONDS = 3600.0
"""How long a condemned digest is refused: a collector that was killed clears nothing, and one that
works needs seconds."""


def check_not_condemned(connection: Connection, digest: Digest, *, now: float) -> None:
    """Raises Condemned; the caller holds the revision's lock, or shares it."""
    table = schema.condemned
    query = select(table.c.at).where(table.c.digest == digest)
    at = connection.execute(query).scalar_one_or_none()
    if at is not None and at > now - CONDEMNED_SECONDS:
        raise Condemned("these bytes are being deleted; add them again in a moment")
