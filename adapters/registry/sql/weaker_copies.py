"""Versions that are weaker copies of others, whose data they need and whose job has made them."""

from __future__ import annotations

from sqlalchemy import Connection, select

from adapters.domain.names import JobId, VersionId, split_version
from adapters.domain.versions import Version, copied_from
from adapters.registry.ports.versions import NewVersion
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


def making_job(connection: Connection, version: Version) -> JobId | None:
    """The job that made it, or the version that it is a weaker copy of; None where none has."""
    name = split_version(version.weaker_copy_of or "")
    if name is None:
        return version.job_id
    table = schema.versions.c
    query = select(table.job_id).where(table.adapter == name[0], table.number == name[1])
    return connection.execute(query).scalar_one_or_none()


def same_copy(connection: Connection, new: NewVersion) -> Version | None:
    """What was published before of the same version with the same bytes."""
    table = schema.versions
    alike = table.c.adapter == new.adapter, table.c.digest == new.digest, table.c.job_id.is_(None)
    query = select(table).where(*alike).order_by(table.c.id)
    listed = all_of(connection, query, rows.version_from)
    of = copied_from(new.evidence)
    return next((each for each in listed if each.weaker_copy_of == of), None)
