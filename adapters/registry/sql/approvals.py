"""Approvals in the database; a promotion reads them in its own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, select

from adapters.domain.approvals import (
    Approval,
    Verdict,
    author_of,
    check_approved,
    check_may_decide,
)
from adapters.domain.audit import Action
from adapters.domain.names import VersionId
from adapters.domain.principals import Principal
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, NotPermitted
from adapters.registry.sql import schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.job_rows import find_job
from adapters.registry.sql.key_holders import ids_of_holder
from adapters.registry.sql.queries import SqlPort, all_of, lock_revision, put
from adapters.registry.sql.version_rows import find_version

_ACTION = {
    Verdict.APPROVED: Action.VERSION_APPROVED,
    Verdict.REJECTED: Action.VERSION_DISAPPROVED,
}


class SqlApprovals(SqlPort):
    """Implements `Approvals`."""

    def decide(
        self,
        version_id: VersionId,
        verdict: Verdict,
        principal: Principal,
        *,
        reason: str | None = None,
    ) -> Approval:
        """Keeps what the principal says, in the place of what they said before."""
        with self._database.write() as connection:
            lock_revision(connection)  # a promotion sees either all of it or nothing
            version, person = _to_decide_about(connection, version_id, principal)
            theirs = [a for a in approvals_of(connection, version_id) if a.actor in person]
            before = theirs[-1] if theirs else None
            if before is not None and (before.verdict, before.reason) == (verdict, reason):
                return before
            at = self._database.now(connection)
            said = Approval(
                version_id=version_id,
                actor=principal.id,
                role=principal.role.value,
                verdict=verdict,
                reason=reason,
                at=at,
            )
            _forget(connection, theirs)
            put(connection, schema.approvals, asdict(said) | {"verdict": verdict.value})
            append(
                connection,
                principal,
                _ACTION[verdict],
                f"version/{version.name}",
                at=at,
                unit=version.unit,
                before=None if before is None else {"verdict": before.verdict.value},
                after={"verdict": verdict.value, "digest": version.digest},
                reason=reason,
            )
            return said

    def withdraw_rejection(
        self, version_id: VersionId, actor: str, principal: Principal, *, reason: str | None = None
    ) -> Sequence[Approval]:
        """Forgets that the holder of `actor` rejects a version; what is left."""
        if not principal.sees_every_unit:
            raise NotPermitted("what somebody else has said is the admin's to take back")
        with self._database.write() as connection:
            lock_revision(connection)
            version, _ = _to_decide_about(connection, version_id, principal)
            person = ids_of_holder(connection, actor)
            against = [
                each
                for each in approvals_of(connection, version_id)
                if each.actor in person and each.verdict is Verdict.REJECTED
            ]
            if against:
                _forget(connection, against)
                append(
                    connection,
                    principal,
                    Action.VERSION_REJECTION_WITHDRAWN,
                    f"version/{version.name}",
                    at=self._database.now(connection),
                    unit=version.unit,
                    before={"verdict": Verdict.REJECTED.value, "by": against[-1].actor},
                    after={"digest": version.digest},
                    reason=reason,
                )
            return approvals_of(connection, version_id)

    def of(self, version_id: VersionId) -> Sequence[Approval]:
        """What was said of a version, oldest first."""
        with self._database.read() as connection:
            return approvals_of(connection, version_id)


def check_goes_live(connection: Connection, version: Version, *, needs_approval: bool) -> None:
    """Raises Conflict (`version_disapproved`, `approval_missing`)."""
    check_approved(version, approvals_of(connection, version.id), needed=needs_approval)


def approvals_of(connection: Connection, version_id: VersionId) -> Sequence[Approval]:
    table = schema.approvals
    query: Select[Any] = (
        select(table).where(table.c.version_id == version_id).order_by(table.c.at, table.c.actor)
    )
    return all_of(connection, query, _approval_from)


def _forget(connection: Connection, said: Sequence[Approval]) -> None:
    """What a person said before, with whichever key."""
    table = schema.approvals
    for each in said:
        its = (table.c.version_id == each.version_id) & (table.c.actor == each.actor)
        connection.execute(delete(table).where(its))


def _approval_from(row: RowMapping) -> Approval:
    return Approval(**{**row, "verdict": Verdict(row["verdict"])})


def _to_decide_about(
    connection: Connection, version_id: VersionId, principal: Principal
) -> tuple[Version, frozenset[str]]:
    """The version, and all ids of who decides. Raises NotFound, NotPermitted, Conflict."""
    version = find_version(connection, version_id, principal)
    _check_open(version)
    job = None if version.job_id is None else find_job(connection, version.job_id)
    person = ids_of_holder(connection, principal.id)
    check_may_decide(version, person, author=author_of(version, job))
    return version, person


def _check_open(version: Version) -> None:
    if version.state is VersionState.REJECTED:
        raise Conflict(f"{version.name} was rejected by its gates", code="version_rejected")
    if version.withdrawn_at is not None or version.collected_at is not None:
        raise Conflict(f"{version.name} was retired and is not kept", code="version_retired")
