"""Versions that are weaker copies of others, whose data they need and whose job has made them."""

from __future__ import annotations

from sqlalchemy import Connection, select

from adapters.domain.names import JobId, VersionId, split_version
from adapters.domain.versions import Version, copied_from
from adapters.registry.ports.versions import NewVersion
from adapters.registry.sql import rows, schema
from adapters.registry.sql.files import UNFINISHED
from adapters.registry.sql.queries import all_of


def copied_versions(connection: Connection) -> set[VersionId]:
    """Those that a version which is kept is a weaker copy of: its dataset is that of their job."""
    table = schema.versions.c
    copied: set[VersionId] = set()
    for adapter, number in set(_copied_by(connection).values()):
        found = select(table.id).where(table.adapter == adapter, table.number == number)
        copied |= {VersionId(each) for each in connection.execute(found).scalars()}
    return copied


def copies_of_unfinished_jobs(connection: Connection) -> set[VersionId]:
    """Weaker copies whose job may still judge and promote them."""
    table, jobs = schema.versions.c, schema.jobs.c
    made = select(table.adapter, table.number).join(schema.jobs, jobs.id == table.job_id)
    rows_made = connection.execute(made.where(jobs.status.in_(UNFINISHED)))
    unfinished = {(adapter, number) for adapter, number in rows_made}
    return {copy for copy, name in _copied_by(connection).items() if name in unfinished}


def _copied_by(connection: Connection) -> dict[VersionId, tuple[str, int]]:
    """Weaker copy that is kept → adapter and number of what it is a copy of."""
    table = schema.versions
    query = select(table).where(table.c.job_id.is_(None), table.c.collected_at.is_(None))
    listed = all_of(connection, query, rows.version_from)
    names = ((version.id, split_version(version.weaker_copy_of or "")) for version in listed)
    return {copy: name for copy, name in names if name is not None}


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
