"""Finding and changing a version's row, for every command that touches one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, update

from adapters.domain import audit_facts
from adapters.domain.audit import Action
from adapters.domain.names import VersionId
from adapters.domain.principals import SYSTEM, Principal
from adapters.domain.versions import Version
from adapters.errors import NotFound
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.queries import MAX_NUMBER, one, visible

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
