"""Routes and rollouts in the database, and the snapshot that replicas route by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, insert, select, update

from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.pages import Page
from adapters.domain.routes import Rollout, RolloutState, Route
from adapters.domain.versions import VersionState
from adapters.errors import NotFound
from adapters.registry import rows, rules, schema
from adapters.registry.port import Snapshot
from adapters.registry.sql_jobs import job_called
from adapters.registry.sql_rows import (
    SqlPart,
    added_id,
    all_of,
    bump_revision,
    current_revision,
    one,
    page,
)
from adapters.registry.sql_versions import find_version, write_version


class SqlRoutes(SqlPart):
    """The registry's methods about routes, and its snapshot."""

    def snapshot(self) -> Snapshot:
        """Everything a replica needs, as it was at one moment."""
        keys, versions = schema.keys, schema.versions
        live_keys = select(keys).where(keys.c.revoked_at.is_(None)).order_by(keys.c.seq)
        servable = select(versions).where(versions.c.state != VersionState.REJECTED.value)
        with self._database.read() as connection:
            routes = all_of(connection, select(schema.routes), rows.route_from)
            found = all_of(connection, servable.order_by(versions.c.id), rows.version_from)
            return Snapshot(
                revision=current_revision(connection),
                routes={route.alias: route for route in routes},
                rollouts=tuple(all_of(connection, _loading(), rows.rollout_from)),
                versions={version.id: version for version in found},
                keys=tuple(all_of(connection, live_keys, rows.key_from)),
            )

    def route(self, alias: Alias, *, unit: Unit) -> Route:
        """The route, or an empty one of generation 0. Raises NotFound when it is another unit's."""
        with self._database.read() as connection:
            return rules.owned_route(_route(connection, alias), alias, unit)

    def begin_rollout(
        self,
        alias: Alias,
        version_id: VersionId,
        *,
        unit: Unit,
        action: str,
        actor: str,
        expected_generation: int | None,
        at: float,
    ) -> Rollout:
        """`rules.begun` in a transaction. Raises VersionConflict, Conflict, NotFound."""
        with self._database.write() as connection:
            rules.check_asker(job_called(connection, actor))
            route = rules.owned_route(_route(connection, alias), alias, unit)
            loading = connection.execute(_loading(alias)).mappings().one_or_none()
            asked = rules.asked(route, version_id, action=action, actor=actor, at=at)
            rollout = rules.begun(
                asked,
                route,
                find_version(connection, version_id),
                loading=rows.rollout_from(loading) if loading else None,
                expected_generation=expected_generation,
            )
            if rollout.state is RolloutState.COMPLETE:
                return rollout
            return _start(connection, rollout)

    def complete_rollout(self, rollout_id: int, *, at: float) -> Route:
        """`rules.flipped` in a transaction; idempotent. Raises as that does, and NotFound."""
        with self._database.write() as connection:
            rollout = _rollout(connection, rollout_id)
            target = find_version(connection, rollout.target)
            route = rules.owned_route(_route(connection, rollout.alias), rollout.alias, target.unit)
            if rollout.state is RolloutState.COMPLETE:
                return route
            others = all_of(connection, select(schema.routes), rows.route_from)
            flip = rules.flipped(
                rollout,
                route,
                target=target,
                replaced=find_version(connection, route.stable) if route.stable else None,
                others=others,
                at=at,
            )
            _write_flip(connection, flip)
            return flip.route

    def fail_rollout(self, rollout_id: int, error: str, *, at: float) -> None:
        """`rules.abandoned` in a transaction; idempotent. Raises IllegalTransition, NotFound."""
        with self._database.write() as connection:
            rollout = _rollout(connection, rollout_id)
            ended = rules.abandoned(rollout, error, at=at)
            if ended != rollout:
                _write_rollout(connection, ended)
                bump_revision(connection)

    def rollout(self, rollout_id: int) -> Rollout:
        """Raises NotFound."""
        with self._database.read() as connection:
            return _rollout(connection, rollout_id)

    def rollouts(self, *, alias: Alias, after: str | None, limit: int) -> Page[Rollout]:
        """An alias's history, newest first; `after` is a rollout's id as text."""
        table = schema.rollouts
        query = select(table).where(table.c.alias == alias).order_by(table.c.id.desc())
        if after is not None:
            query = query.where(table.c.id < rules.cursor_number(after))
        with self._database.read() as connection:
            return page(connection, query, rows.rollout_from, limit)


def _route(connection: Connection, alias: Alias) -> Route | None:
    try:
        query = select(schema.routes).where(schema.routes.c.alias == alias)
        return rows.route_from(one(connection, query, "no such alias"))
    except NotFound:
        return None


def _rollout(connection: Connection, rollout_id: int) -> Rollout:
    query = select(schema.rollouts).where(schema.rollouts.c.id == rollout_id)
    return rows.rollout_from(one(connection, query, "no such rollout"))


def _loading(alias: Alias | None = None) -> Select[Any]:
    table = schema.rollouts
    query = select(table).where(table.c.state == RolloutState.LOADING.value).order_by(table.c.id)
    return query if alias is None else query.where(table.c.alias == alias)


def _start(connection: Connection, rollout: Rollout) -> Rollout:
    number = added_id(connection, schema.rollouts, rows.rollout_values(rollout))
    bump_revision(connection)
    return replace(rollout, id=number)


def _write_flip(connection: Connection, flip: rules.Flip) -> None:
    table = schema.routes
    values = rows.route_values(flip.route)
    moved = connection.execute(
        update(table)
        .where(table.c.alias == flip.route.alias, table.c.generation == flip.rollout.generation)
        .values(values)
    )
    if not moved.rowcount:
        connection.execute(insert(table).values(values))
    for version in flip.versions:
        write_version(connection, version)
    _write_rollout(connection, flip.rollout)
    bump_revision(connection)


def _write_rollout(connection: Connection, rollout: Rollout) -> None:
    table = schema.rollouts
    values = rows.rollout_values(rollout)
    connection.execute(update(table).where(table.c.id == rollout.id).values(values))
