"""Finding and changing rows of routes and rollouts, for every command that touches them.

Callers that change something hold the revision's lock.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    delete,
    literal_column,
    or_,
    select,
    update,
)

from adapters.domain import audit_facts
from adapters.domain.audit import Action, Facts
from adapters.domain.canaries import CanaryOutcome
from adapters.domain.names import Alias, VersionId
from adapters.domain.principals import Principal
from adapters.domain.routes import SETS_STABLE, Rollout, RolloutState, Route
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, NotFound
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.canary_rows import end_canary
from adapters.registry.sql.queries import (
    MAX_NUMBER,
    add_numbered,
    all_of,
    bump_revision,
    first_of,
    one,
    put,
)
from adapters.registry.sql.version_rows import audit_version, find_version, write_version
from adapters.registry.transitions.rollouts import TARGET_RETIRED, fail

# literals, not parameters: only so SQLite knows that a partial index holds every row asked for
LOADING = schema.rollouts.c.state == literal_column("'loading'")
FLIPPED = schema.rollouts.c.state == literal_column("'flipped'")
OPEN = schema.rollouts.c.state.in_([literal_column("'loading'"), literal_column("'flipped'")])
MOVED = schema.rollouts.c.state.in_([RolloutState.FLIPPED.value, RolloutState.COMPLETE.value])
SET_STABLE = schema.rollouts.c.action.in_([action.value for action in SETS_STABLE])


def stored_route(connection: Connection, alias: Alias) -> Route | None:
    """The alias's route, whichever unit's it is."""
    query = select(schema.routes).where(schema.routes.c.alias == alias)
    return first_of(connection, query, rows.route_from)


def write_route(connection: Connection, route: Route, *, revision: int) -> None:
    """Adds or replaces the route, as changed at `revision`."""
    put(connection, schema.routes, rows.route_values(route) | {"revision": revision})


def find_rollout(connection: Connection, rollout_id: int) -> Rollout:
    """Raises NotFound."""
    if not 0 < rollout_id <= MAX_NUMBER:
        raise NotFound("no such rollout")
    query = select(schema.rollouts).where(schema.rollouts.c.id == rollout_id)
    return rows.rollout_from(one(connection, query, "no such rollout"))


def loading_rollout(connection: Connection, alias: Alias) -> Rollout | None:
    """The one rollout of the alias that is loading."""
    query = select(schema.rollouts).where(schema.rollouts.c.alias == alias, LOADING)
    return first_of(connection, query, rows.rollout_from)


def newest_rollout(connection: Connection, *conditions: ColumnElement[bool]) -> Rollout | None:
    """The newest rollout that meets every condition."""
    table = schema.rollouts
    query = select(table).where(*conditions).order_by(table.c.id.desc()).limit(1)
    return first_of(connection, query, rows.rollout_from)


def open_rollouts() -> Select[Any]:
    """Those that are loading or flipped, oldest first."""
    return select(schema.rollouts).where(OPEN).order_by(schema.rollouts.c.id)


def add_rollout(connection: Connection, rollout: Rollout) -> Rollout:
    """The rollout with its id."""
    number = add_numbered(connection, schema.rollouts, rows.rollout_values(rollout))
    return replace(rollout, id=number)


def forget_failures(connection: Connection, target: VersionId) -> None:
    """What replicas could not load before is no answer to a new rollout: they try again."""
    told = schema.acknowledgements
    failed = told.c.error.is_not(None)
    connection.execute(delete(told).where(told.c.version_id == target, failed))


def write_rollout(connection: Connection, rollout: Rollout) -> None:
    """Replaces the rollout's row."""
    table = schema.rollouts
    values = rows.rollout_values(rollout)
    connection.execute(update(table).where(table.c.id == rollout.id).values(values))


def audit_rollout(
    connection: Connection,
    by: Principal,
    action: Action,
    rollout: Rollout,
    *,
    at: float,
    reason: str | None = None,
) -> None:
    """Tells the audit log how far a rollout has come."""
    target = find_version(connection, rollout.target)
    append(
        connection,
        by,
        action,
        f"route/{rollout.alias}",
        at=at,
        unit=rollout.unit,
        after=audit_facts.of_rollout(rollout, target),
        reason=reason,
    )


def audit_route(
    connection: Connection,
    by: Principal,
    action: Action,
    before: Route,
    after: Route,
    *,
    at: float,
    more: Facts | None = None,
) -> None:
    """Tells the audit log what a route served before, and what it serves now."""

    def facts(route: Route) -> Facts:
        named = {id: find_version(connection, id).name for id in route.named}
        return audit_facts.of_route(route, named)

    append(
        connection,
        by,
        action,
        f"route/{after.alias}",
        at=at,
        unit=after.unit,
        before=facts(before),
        after={**facts(after), **(more or {})},
    )


def fail_rollouts(
    connection: Connection,
    condition: ColumnElement[bool],
    error: str,
    *,
    by: Principal,
    at: float,
) -> None:
    """Ends every loading rollout that meets the condition; bumps the revision if there is one."""
    if end_loading(connection, condition, error, by=by, at=at):
        bump_revision(connection)


def end_loading(
    connection: Connection,
    condition: ColumnElement[bool],
    error: str,
    *,
    by: Principal,
    at: float,
) -> bool:
    """Ends every loading rollout that meets the condition; whether there was one."""
    query = select(schema.rollouts).where(LOADING, condition)
    loading = all_of(connection, query, rows.rollout_from)
    for rollout in loading:
        failed = fail(rollout, error, at=at)
        write_rollout(connection, failed)
        audit_rollout(connection, by, Action.ROLLOUT_FAILED, failed, at=at, reason=error)
    return bool(loading)


def leave_routes(
    connection: Connection,
    version: Version,
    *,
    aliases: Collection[Alias],
    revision: int,
    by: Principal,
    at: float,
) -> None:
    """Takes a version that is being retired out of every route.

    Raises Conflict (`version_live`) where its unit's route of one of `aliases` serves it or is
    about to: decided here, for what a replica knows of routes may be older.
    """
    table = schema.routes.c
    names = or_(*(column == version.id for column in (table.stable, table.canary, table.shadow)))
    serving = all_of(connection, select(schema.routes).where(names), rows.route_from)
    wanted = all_of(
        connection,
        select(schema.rollouts).where(LOADING, schema.rollouts.c.target == version.id),
        rows.rollout_from,
    )
    named = {(route.alias, route.unit) for route in serving}
    named |= {(rollout.alias, rollout.unit) for rollout in wanted}
    if any(alias in aliases and unit == version.unit for alias, unit in named):
        raise Conflict(
            f"{version.name} is live or about to be; promote another version first",
            code="version_live",
        )
    for route in serving:
        left = replace(route.without(version.id), generation=route.generation + 1, updated_at=at)
        write_route(connection, left, revision=revision)
        audit_route(connection, by, Action.ROUTE_EMPTIED, route, left, at=at)
        _end_canary_beside(connection, version, route, left, by=by, at=at)
    rollouts = schema.rollouts.c
    emptied_aliases = [route.alias for route in serving]
    ended = or_(rollouts.target == version.id, rollouts.alias.in_(emptied_aliases))
    end_loading(connection, ended, TARGET_RETIRED, by=by, at=at)


def _end_canary_beside(
    connection: Connection,
    withdrawn: Version,
    before: Route,
    after: Route,
    *,
    by: Principal,
    at: float,
) -> None:
    """A canary ends with its own version, and with the stable one beside it."""
    canary = before.canary
    if canary is None or after.canary is not None:
        return
    end_canary(connection, canary.rollout, CanaryOutcome.ABORTED, TARGET_RETIRED, at=at)
    others = serve_elsewhere(connection, [canary.version], besides=before.alias)
    if canary.version == withdrawn.id or others:
        return
    version = find_version(connection, canary.version)
    retired = version.to(VersionState.RETIRED)
    write_version(connection, retired)
    audit_version(connection, by, Action.VERSION_MOVED, version, retired, at=at)


def serve_elsewhere(
    connection: Connection, versions: Collection[VersionId], *, besides: Alias
) -> set[VersionId]:
    """Those of `versions` that answer by another alias's route."""
    table = schema.routes.c
    named = or_(table.stable.in_(versions), table.canary.in_(versions))
    query = select(schema.routes).where(named, table.alias != besides)
    routes = all_of(connection, query, rows.route_from)
    return {id for route in routes for id in route.answering} & set(versions)
