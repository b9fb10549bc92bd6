"""Finds in the stored history what a rollback of a route would return to."""

from __future__ import annotations

from sqlalchemy import Connection, select

from adapters.domain.names import VersionId
from adapters.domain.routes import Route, rollback_target
from adapters.domain.versions import VersionState
from adapters.registry.sql import rows, schema
from adapters.registry.sql.queries import all_of
from adapters.registry.sql.rollout_rows import MOVED, SET_STABLE
from adapters.registry.sql.version_rows import find_version


def rollback_target_of(connection: Connection, route: Route) -> VersionId:
    """`rollback_target` of the stored history, whose newest good flip is all that is read.

    Histories grow for years. Raises Conflict (`nothing_to_roll_back`).
    """
    rollouts, versions = schema.rollouts, schema.versions
    query = (
        select(rollouts)
        .join(versions, versions.c.id == rollouts.c.target)
        .where(
            rollouts.c.alias == route.alias,
            rollouts.c.unit == route.unit,
            rollouts.c.id >= route.since,
            MOVED,
            SET_STABLE,
            versions.c.id != (route.stable or 0),
            versions.c.state != VersionState.REJECTED.value,
            versions.c.rolled_back_at.is_(None),
            versions.c.withdrawn_at.is_(None),
            versions.c.collected_at.is_(None),
        )
        .order_by(rollouts.c.id.desc())
        .limit(1)
    )
    flips = all_of(connection, query, rows.rollout_from)
    versions_by_id = {flip.target: find_version(connection, flip.target) for flip in flips}
    return rollback_target(route, flips, versions_by_id)
