"""Versions that are weaker copies of others, whose data they need."""

from __future__ import annotations

from sqlalchemy import Connection, select

from adapters.domain.names import VersionId, split_version
from adapters.registry.sql import rows, schema
from adapters.registry.sql.queries import all_of


def copied_versions(connection: Connection) -> set[VersionId]:
    """Those that a version which is kept is a weaker copy of: its dataset is that of their job."""
    table = schema.versions
    query = select(table).where(table.c.job_id.is_(None), table.c.collected_at.is_(None))
    copied: set[VersionId] = set()
    for version in all_of(connection, query, rows.version_from):
        name = split_version(version.weaker_copy_of or "")
        if name is not None:
            found = select(table.c.id).where(table.c.adapter == name[0], table.c.number == name[1])
            copied |= {VersionId(each) for each in connection.execute(found).scalars()}
    return copied
