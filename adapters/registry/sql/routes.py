"""What replicas route by, read from the database as far as it changed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, Table, func, or_, select

from adapters.domain.names import Alias, Unit
from adapters.domain.routes import Route
from adapters.domain.versions import VersionState
from adapters.registry.ports.routes import Changes
from adapters.registry.sql import rows, schema
from adapters.registry.sql.queries import SqlPort, all_of, current_revision
from adapters.registry.sql.rollout_rows import FLIPPED, LOADING, open_rollouts, stored_route

_SERVED = (
    "id",
    "adapter",
    "number",
    "unit",
    "digest",
    "base_fingerprint",
    "created_at",
    "state",
    "withdrawn_at",
    "collected_at",
)
"""Columns that routing needs, and what says whether a version is servable; no evidence."""


class SqlRoutes(SqlPort):
    """`Routes`."""

    def revision(self) -> int:
        """Grows whenever `changes` would differ."""
        with self._database.read() as connection:
            return current_revision(connection)

    def changes(self, since: int) -> Changes:
        """Everything that changed after revision `since`; -1 reads all of it."""
        with self._database.read() as connection:
            revision = current_revision(connection)
            if since > revision:
                since = -1  # the registry was restored from a backup
            if revision == since:
                # nothing changed, rollouts included: each of their steps is a revision
                return Changes(revision=revision, rollouts=_open(connection))
            return Changes(
                revision=revision,
                routes=all_of(connection, _routes(since), rows.route_from),
                versions=all_of(connection, _versions(since), rows.served_from),
                keys=all_of(connection, _keys(since), rows.key_from),
                rollouts=_open(connection),
            )

    def route(self, alias: Alias, unit: Unit) -> Route:
        """The unit's route, or one without a version where it has none."""
        with self._database.read() as connection:
            return route_of(connection, alias, unit)


def route_of(connection: Connection, alias: Alias, unit: Unit) -> Route:
    """The route as the unit sees it: one that was another unit's starts anew."""
    route = stored_route(connection, alias)
    return Route(alias=alias, unit=unit) if route is None else route.for_unit(unit)


def _open(connection: Connection) -> Any:
    """Loading rollouts, and of each alias the newest that is flipped: it stands for those before.

    A replica that is silent for long must not make every answer longer.
    """
    rollouts = schema.rollouts.c
    newest = select(func.max(rollouts.id)).where(FLIPPED).group_by(rollouts.alias)
    query = open_rollouts().where(or_(LOADING, rollouts.id.in_(newest)))
    return all_of(connection, query, rows.rollout_from)


def _routes(since: int) -> Select[Any]:
    return _changed(schema.routes, select(schema.routes), since)


def _versions(since: int) -> Select[Any]:
    table = schema.versions
    query = _changed(table, select(*(table.c[name] for name in _SERVED)), since)
    if since >= 0:
        return query.order_by(table.c.id)
    # whoever has read nothing has nothing to forget
    return query.order_by(table.c.id).where(
        table.c.state != VersionState.REJECTED.value,
        table.c.withdrawn_at.is_(None),
        table.c.collected_at.is_(None),
    )


def _keys(since: int) -> Select[Any]:
    table = schema.keys
    query = _changed(table, select(table), since).order_by(table.c.seq)
    return query if since >= 0 else query.where(table.c.revoked_at.is_(None))


def _changed(table: Table, query: Select[Any], since: int) -> Select[Any]:
    return query.where(table.c.revision > since)
