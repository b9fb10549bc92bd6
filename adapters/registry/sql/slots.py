"""Asks, in a command's transaction, whether a version finds a slot in every engine of its base."""

from __future__ import annotations

from sqlalchemy import Connection, or_, select

from adapters.domain import slots
from adapters.domain.names import VersionId
from adapters.domain.versions import Version
from adapters.registry.sql import schema
from adapters.registry.sql.replica_rows import replica_statuses

_NAMING = ("stable", "canary", "shadow")
"""Columns of a route that name a version which must be loaded for it."""


def check_slots(connection: Connection, target: Version, *, now: float) -> None:
    """Raises Conflict (`rank_not_served`, `no_slot`) where a reporting replica says no."""
    reporting = [
        status.replica
        for status in replica_statuses(connection, now=now)
        if status.replica.reporting and status.replica.base_fingerprint == target.base_fingerprint
    ]
    engines = [
        slots.engine_of(one.id, one.limits, loaded=one.loaded, failed=frozenset(one.failed))
        for one in reporting
    ]
    slots.check_fits(target, _named(connection, target), [one for one in engines if one])


def _named(connection: Connection, target: Version) -> frozenset[VersionId]:
    """Versions of the target's base that routes name."""
    versions, routes = schema.versions.c, schema.routes
    naming = [column for column in routes.c if column.name in _NAMING]
    query = (
        select(versions.id)
        .join(routes, or_(*(column == versions.id for column in naming)))
        .where(versions.base_fingerprint == target.base_fingerprint)
    )
    return frozenset(VersionId(number) for number in connection.execute(query).scalars())
