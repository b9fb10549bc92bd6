"""Versions in the database: publishing under the fence, verdicts, lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, select, update

from adapters.domain.gates import GateResult
from adapters.domain.names import JobId, Unit, VersionId, split_version
from adapters.domain.pages import Page
from adapters.domain.versions import Version
from adapters.errors import NotFound
from adapters.registry import rows, rules, schema
from adapters.registry.port import NewVersion
from adapters.registry.sql_jobs import held_job
from adapters.registry.sql_rows import SqlPart, added_id, bump_revision, one, page

_MISSING = "no such version"


class SqlVersions(SqlPart):
    """The registry's methods about versions."""

    def publish_version(
        self, new: NewVersion, *, job_id: JobId | None, fence: int | None, at: float
    ) -> Version:
        """A candidate with the adapter's next number; the job's first one when it has published.

        Raises LeaseLost when `job_id` is given and `fence` is not its current one.
        """
        with self._database.write() as connection:
            if job_id is not None:
                held_job(connection, job_id, fence)
                first = _published_by(connection, job_id)
                if first is not None:
                    return first
            newest = _newest(connection, new.adapter)
            version = rules.numbered(new, newest=newest, job_id=job_id, at=at)
            number = added_id(connection, schema.versions, rows.version_values(version))
            bump_revision(connection)
            return replace(version, id=VersionId(number))

    def record_gates(
        self,
        version_id: VersionId,
        gates: Sequence[GateResult],
        *,
        fence: int,
        evidence: Mapping[str, Any],
    ) -> Version:
        """`rules.judged` under the fence. Raises NotFound, LeaseLost, IllegalTransition."""
        with self._database.write() as connection:
            found = find_version(connection, version_id)
            held_job(connection, rules.judging_job(found), fence)
            version = rules.judged(found, gates, evidence)
            write_version(connection, version)
            bump_revision(connection)
            return version

    def version(self, adapter: str, number: int, *, unit: Unit | None) -> Version:
        """Raises NotFound when unknown or another unit's."""
        with self._database.read() as connection:
            return _named(connection, adapter, number, unit)

    def version_by_id(self, version_id: VersionId) -> Version:
        """Raises NotFound."""
        with self._database.read() as connection:
            return find_version(connection, version_id)

    def version_of_job(self, job_id: JobId) -> Version | None:
        """What the job has published."""
        with self._database.read() as connection:
            return _published_by(connection, job_id)

    def versions(
        self, *, unit: Unit | None, adapter: str | None, after: str | None, limit: int
    ) -> Page[Version]:
        """Newest first; `after` is a version's name. Raises NotFound for an unknown one."""
        query = _versions(unit).order_by(schema.versions.c.id.desc())
        if adapter is not None:
            query = query.where(schema.versions.c.adapter == adapter)
        with self._database.read() as connection:
            if after is not None:
                name = split_version(after)
                if name is None:
                    raise NotFound("no such version to go on after", param="after")
                query = query.where(schema.versions.c.id < _named(connection, *name, unit).id)
            return page(connection, query, rows.version_from, limit)


def find_version(connection: Connection, version_id: VersionId) -> Version:
    """The version of this id. Raises NotFound."""
    query = select(schema.versions).where(schema.versions.c.id == version_id)
    return rows.version_from(one(connection, query, _MISSING))


def write_version(connection: Connection, version: Version) -> None:
    """Replaces the version's row."""
    table = schema.versions
    values = rows.version_values(version)
    connection.execute(update(table).where(table.c.id == version.id).values(values))


def _versions(unit: Unit | None) -> Select[Any]:
    query = select(schema.versions)
    return query if unit is None else query.where(schema.versions.c.unit == unit)


def _named(connection: Connection, adapter: str, number: int, unit: Unit | None) -> Version:
    table = schema.versions.c
    query = _versions(unit).where(table.adapter == adapter, table.number == number)
    return rows.version_from(one(connection, query, _MISSING))


def _published_by(connection: Connection, job_id: JobId) -> Version | None:
    query = select(schema.versions).where(schema.versions.c.job_id == job_id)
    row = connection.execute(query).mappings().one_or_none()
    return rows.version_from(row) if row else None


def _newest(connection: Connection, adapter: str) -> Version | None:
    table = schema.versions
    query = select(table).where(table.c.adapter == adapter).order_by(table.c.number.desc())
    row = connection.execute(query.limit(1).with_for_update()).mappings().one_or_none()
    return rows.version_from(row) if row else None
