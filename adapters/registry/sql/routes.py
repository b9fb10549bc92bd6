"""What replicas route by, read from the database as far as it changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, RowMapping, Select, func, or_, select

from adapters.domain.api_keys import Key
from adapters.domain.names import Alias, Unit
from adapters.domain.routes import Rollout, Route
from adapters.domain.versions import ServedVersion, VersionState
from adapters.registry.ports.routes import Changes
from adapters.registry.sql import rows, schema
from adapters.registry.sql.permissions import shared_with
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
    "pinned_at",
    "signature",
)
"""Columns that routing needs, and what says whether a version is servable; no evidence."""


_FEW = 100
"""As many changed rows are read by their index; where there are more, all are looked through."""

T = TypeVar("T")


class SqlRoutes(SqlPort):
    """Implements `Routes`."""

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
                routes=_routes(connection, since),
                versions=_versions(connection, since),
                keys=_keys(connection, since),
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


def _open(connection: Connection) -> Sequence[Rollout]:
    """Loading rollouts, and of each alias the newest that is flipped: it stands for those before.

    A replica that is silent for long must not make every answer longer.
    """
    rollouts = schema.rollouts.c
    newest = select(func.max(rollouts.id)).where(FLIPPED).group_by(rollouts.alias)
    query = open_rollouts().where(or_(LOADING, rollouts.id.in_(newest)))
    return all_of(connection, query, rows.rollout_from)


def _routes(connection: Connection, since: int) -> Sequence[Route]:
    table = schema.routes
    return _changed(connection, select(table), table.c.alias, since, rows.route_from)


def _versions(connection: Connection, since: int) -> Sequence[ServedVersion]:
    table = schema.versions
    query = select(*(table.c[name] for name in _SERVED))
    if since < 0:
        # whoever has read nothing has nothing to forget
        query = query.where(
            table.c.state != VersionState.REJECTED.value,
            table.c.withdrawn_at.is_(None),
            table.c.collected_at.is_(None),
        )
    found = _changed(connection, query, table.c.id, since, rows.served_from)
    few = [version.id for version in found] if len(found) < _FEW else None
    shared = shared_with(connection, few) if found else {}
    return [
        replace(version, shared_with=frozenset(shared[version.id]))
        if version.id in shared
        else version
        for version in found
    ]


def _keys(connection: Connection, since: int) -> Sequence[Key]:
    table = schema.keys
    query = select(table)
    if since < 0:
        query = query.where(table.c.revoked_at.is_(None))
    return _changed(connection, query, table.c.seq, since, rows.key_from)


def _changed(
    connection: Connection,
    query: Select[Any],
    order: Column[Any],
    since: int,
    convert: Callable[[RowMapping], T],
) -> Sequence[T]:
    """The rows that changed after `since`.

    A planner that does not know how many those are takes the index only where few rows in its
    order are asked for; without that it reads every version there ever was, on both databases.
    """
    revision = order.table.c.revision
    if since >= 0:
        query = query.where(revision > since)
        few = all_of(connection, query.order_by(revision, order).limit(_FEW), convert)
        if len(few) < _FEW:
            return few
    return all_of(connection, query.order_by(order), convert)
