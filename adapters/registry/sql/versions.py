"""Versions in the database: publishing under the fence, verdicts, retirement, lists."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, func, select

from adapters.domain.audit import Action
from adapters.domain.gates import GateResult, all_passed
from adapters.domain.names import Alias, JobId, VersionId, split_version
from adapters.domain.pages import Page
from adapters.domain.principals import SYSTEM, Principal
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, NotFound
from adapters.registry.ports.versions import NewVersion
from adapters.registry.sql import rows, schema
from adapters.registry.sql.condemned import check_not_condemned
from adapters.registry.sql.job_rows import find_job, held_job
from adapters.registry.sql.named_versions import named_versions
from adapters.registry.sql.queries import (
    SqlPort,
    add_numbered,
    all_of,
    bump_revision,
    first_of,
    lock_revision,
    one,
    page,
    visible,
)
from adapters.registry.sql.rollout_rows import leave_routes
from adapters.registry.sql.version_rows import (
    MISSING,
    audit_version,
    find_version,
    write_version,
)
from adapters.registry.sql.weaker_copies import making_job, same_copy
from adapters.registry.transitions import versions as transitions


class SqlVersions(SqlPort):
    """Implements `Versions`."""

    def publish(
        self,
        new: NewVersion,
        *,
        job_id: JobId | None,
        fence: int | None,
        by: Principal = SYSTEM,
    ) -> Version:
        """A candidate with the adapter's next number; the job's first one when it has published.

        Raises LeaseLost, Conflict (`foreign_adapter`), Condemned.
        """
        with self._database.write() as connection:
            lock_revision(connection)
            if job_id is not None:
                by = held_job(connection, job_id, fence).principal
                first = _published_by(connection, job_id)
                if first is not None:
                    return first
            return self._add(connection, new, job_id=job_id, by=by)

    def publish_copy(self, new: NewVersion, *, job_id: JobId, fence: int) -> Version:
        """A weaker copy of what the job has published; the same one for the same bytes.

        Raises LeaseLost, Conflict (`foreign_adapter`), Condemned.
        """
        with self._database.write() as connection:
            lock_revision(connection)
            by = held_job(connection, job_id, fence).principal
            found = same_copy(connection, new)
            return found or self._add(connection, new, job_id=None, by=by)

    def _add(
        self, connection: Connection, new: NewVersion, *, job_id: JobId | None, by: Principal
    ) -> Version:
        at = self._database.now(connection)
        check_not_condemned(connection, new.digest, now=at)
        newest = _newest(connection, new.adapter)
        version = transitions.number(new, newest=newest, job_id=job_id, at=at)
        values = rows.version_values(version) | {"revision": bump_revision(connection)}
        number = add_numbered(connection, schema.versions, values)
        version = replace(version, id=VersionId(number))
        audit_version(connection, by, Action.VERSION_PUBLISHED, None, version, at=at)
        return version

    def record_gates(
        self,
        version_id: VersionId,
        gates: Sequence[GateResult],
        *,
        fence: int,
        evidence: Mapping[str, Any],
    ) -> Version:
        """Keeps the verdicts under the fence; a version that failed is rejected.

        Raises NotFound, LeaseLost, IllegalTransition (`already_judged`).
        """
        with self._database.write() as connection:
            lock_revision(connection)
            found = find_version(connection, version_id)
            made_by = transitions.judging_job(found, making_job(connection, found))
            job = held_job(connection, made_by, fence)
            version = transitions.judge(found, gates, evidence)
            return self._judged(connection, found, version, by=job.principal)

    def judge_again(
        self,
        version_id: VersionId,
        gates: Sequence[GateResult],
        *,
        evidence: Mapping[str, Any],
    ) -> Version:
        """Replaces the verdicts. Raises NotFound, Conflict."""
        with self._database.write() as connection:
            lock_revision(connection)
            found = find_version(connection, version_id)
            made_by = making_job(connection, found)
            job = None if made_by is None else find_job(connection, made_by)
            version = transitions.judge_again(found, job, gates, evidence)
            return self._judged(connection, found, version, by=SYSTEM)

    def _judged(
        self, connection: Connection, found: Version, version: Version, *, by: Principal
    ) -> Version:
        """Writes the verdicts; replicas are told of a version that is rejected by them."""
        more = {}
        if version.state is not found.state:
            more["revision"] = bump_revision(connection)
        write_version(connection, version, **more)
        at = self._database.now(connection)
        audit_version(connection, by, Action.VERSION_JUDGED, found, version, at=at)
        return version

    def get(self, adapter: str, number: int, principal: Principal) -> Version:
        """Raises NotFound when unknown or another unit's."""
        with self._database.read() as connection:
            return _named(connection, adapter, number, principal)

    def by_id(self, version_id: VersionId) -> Version:
        """Raises NotFound."""
        with self._database.read() as connection:
            return find_version(connection, version_id)

    def of_job(self, job_id: JobId) -> Version | None:
        """What the job has published."""
        with self._database.read() as connection:
            return _published_by(connection, job_id)

    def unproven_imports(self) -> Sequence[Version]:
        """Candidates that somebody brought and no gate has spoken for or against yet."""
        table = schema.versions.c
        query = (
            select(schema.versions)
            .where(
                table.job_id.is_(None),
                table.state == VersionState.CANDIDATE.value,
                table.collected_at.is_(None),
            )
            .order_by(table.id)
        )
        with self._database.read() as connection:
            found = all_of(connection, query, rows.version_from)
            return [each for each in found if each.imported and not all_passed(each.gates)]

    def list(
        self, principal: Principal, *, adapter: str | None, after: str | None, limit: int
    ) -> Page[Version]:
        """Newest first; `after` is a version's name. Raises NotFound for an unknown one."""
        query = _versions(principal).order_by(schema.versions.c.id.desc())
        if adapter is not None:
            query = query.where(schema.versions.c.adapter == adapter)
        with self._database.read() as connection:
            if after is not None:
                name = split_version(after)
                if name is None:
                    raise NotFound("no such version to go on after", param="after")
                last = _named(connection, *name, principal)
                query = query.where(schema.versions.c.id < last.id)
            return page(connection, query, rows.version_from, limit)

    def sign(
        self,
        signatures: Mapping[VersionId, str],
        principal: Principal,
        *,
        reason: str | None = None,
    ) -> int:
        """Gives versions these signatures; how many that changed. Raises NotFound."""
        with self._database.write() as connection:
            revision = lock_revision(connection) + 1
            found = [find_version(connection, each, principal) for each in signatures]
            unlike = [v for v in found if v.signature != signatures[v.id]]
            if not unlike:
                return 0
            bump_revision(connection)
            at = self._database.now(connection)
            for before in unlike:
                after = replace(before, signature=signatures[before.id])
                write_version(connection, after, revision=revision)
                action = Action.VERSION_SIGNED
                audit_version(connection, principal, action, before, after, at=at, reason=reason)
            return len(unlike)

    def pin(
        self,
        version_id: VersionId,
        principal: Principal,
        *,
        pinned: bool,
        reason: str | None = None,
    ) -> Version:
        """Keeps a version resident, or no longer. Raises NotFound, Conflict."""
        table = schema.versions.c
        with self._database.write() as connection:
            revision = lock_revision(connection) + 1
            found = find_version(connection, version_id, principal)
            mine = select(func.count()).where(
                table.unit == found.unit, table.pinned_at.is_not(None)
            )
            others = connection.execute(mine.where(table.id != version_id)).scalar_one()
            at = self._database.now(connection)
            version = transitions.pin(found, pinned=pinned, others=others, at=at)
            if version != found:
                bump_revision(connection)
                write_version(connection, version, revision=revision)
                action = Action.VERSION_PINNED
                audit_version(connection, principal, action, found, version, at=at, reason=reason)
            return version

    def retire(
        self,
        version_id: VersionId,
        principal: Principal,
        *,
        aliases: Collection[Alias],
        unneeded: bool = False,
        reason: str | None = None,
    ) -> Version:
        """Withdraws a version; where no alias leads there any more, its routes are emptied.

        Raises NotFound; Conflict (`version_live`, `version_in_use`).
        """
        with self._database.write() as connection:
            revision = lock_revision(connection) + 1
            found = find_version(connection, version_id, principal)
            if found.withdrawn_at is not None:
                return found
            if unneeded and found.id in named_versions(connection):
                raise Conflict(
                    f"{found.name} is live, pinned, to be rolled back to, or a job's that has not "
                    "ended",
                    code="version_in_use",
                )
            at = self._database.now(connection)
            leave_routes(connection, found, aliases=aliases, revision=revision, by=principal, at=at)
            version = transitions.withdraw(found, at=at)
            bump_revision(connection)
            write_version(connection, version, revision=revision, withdrawn_by=principal.id)
            action = Action.VERSION_RETIRED
            audit_version(connection, principal, action, found, version, at=at, reason=reason)
            return version


def _versions(principal: Principal) -> Select[Any]:
    return select(schema.versions).where(visible(schema.versions.c.unit, principal))


def _named(connection: Connection, adapter: str, number: int, principal: Principal) -> Version:
    table = schema.versions.c
    query = _versions(principal).where(table.adapter == adapter, table.number == number)
    return rows.version_from(one(connection, query, MISSING))


def _published_by(connection: Connection, job_id: JobId) -> Version | None:
    query = select(schema.versions).where(schema.versions.c.job_id == job_id)
    return first_of(connection, query, rows.version_from)


def _newest(connection: Connection, adapter: str) -> Version | None:
    table = schema.versions
    query = select(table).where(table.c.adapter == adapter).order_by(table.c.number.desc())
    return first_of(connection, query.limit(1), rows.version_from)
