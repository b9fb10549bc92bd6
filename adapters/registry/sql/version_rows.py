"""Finding and changing a version's row, for every command that touches one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, update

from adapters.domain import audit_facts
from adapters.domain.audit import Action
from adapters.domain.names import Unit, VersionId, split_version
from adapters.domain.principals import SYSTEM, Principal
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, NotFound
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.queries import MAX_NUMBER, one, share_revision, visible

MISSING = "no such version"


def find_version(
    connection: Connection, version_id: VersionId, principal: Principal = SYSTEM
) -> Version:
    """The version of this id. Raises NotFound."""
    if not 0 < version_id <= MAX_NUMBER:
        raise NotFound(MISSING)
    table = schema.versions
    query = select(table).where(table.c.id == version_id, visible(table.c.unit, principal))
    return rows.version_from(one(connection, query, MISSING))


def check_trainable(connection: Connection, model: str, unit: Unit) -> None:
    """Whether a job of the unit may begin with `model`, where that is a version and not the base.

    To be called before a row is locked. Raises NotFound (`param` is `model`), Conflict
    (`version_retired`, `version_rejected`).
    """
    name = split_version(model)
    if name is None:
        return
    share_revision(connection)  # none is withdrawn before the job that names it is stored
    table = schema.versions.c
    named = table.adapter == name[0], table.number == name[1], table.unit == unit
    row = one(connection, select(schema.versions).where(*named), MISSING, param="model")
    check_servable(rows.version_from(row), param="model")


def check_servable(version: Version, *, param: str | None = None) -> None:
    """Raises Conflict (`version_retired`, `version_rejected`)."""
    if version.state is VersionState.REJECTED:
        raise Conflict(f"{version.name} was rejected", param=param, code="version_rejected")
    if not version.servable:
        raise Conflict(
            f"{version.name} was retired and is not kept", param=param, code="version_retired"
        )


def write_version(connection: Connection, version: Version, **more: Any) -> None:
    """Replaces the version's row; `more` are columns that the value does not have."""
    table = schema.versions
    values = rows.version_values(version) | more
    connection.execute(update(table).where(table.c.id == version.id).values(values))


def audit_version(
    connection: Connection,
    by: Principal,
    action: Action,
    before: Version | None,
    after: Version,
    *,
    at: float,
    reason: str | None = None,
) -> None:
    """Tells the audit log what became of a version."""
    append(
        connection,
        by,
        action,
        f"version/{after.name}",
        at=at,
        unit=after.unit,
        before=None if before is None else audit_facts.of_version(before),
        after=audit_facts.of_version(after),
        reason=reason,
    )
