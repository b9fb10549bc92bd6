"""What every command that changes a route does in the database: find it begun, begin it, flip.

Callers hold the revision's lock.
"""

from __future__ import annotations

from sqlalchemy import Connection

from adapters.domain import audit
from adapters.domain.names import VersionId
from adapters.domain.principals import SYSTEM, Principal
from adapters.domain.routes import Action, Rollout, RolloutState, Route, check_generation
from adapters.registry.ports.canaries import RouteCommand
from adapters.registry.sql import schema
from adapters.registry.sql.canary_rows import follow_flip
from adapters.registry.sql.queries import check_acts_for
from adapters.registry.sql.rollout_rows import (
    add_rollout,
    audit_rollout,
    audit_route,
    fail_rollouts,
    forget_failures,
    loading_rollout,
    newest_rollout,
    serve_elsewhere,
    stored_route,
    write_rollout,
    write_route,
)
from adapters.registry.sql.routes import route_of
from adapters.registry.sql.slots import check_slots
from adapters.registry.sql.version_rows import audit_version, find_version, write_version
from adapters.registry.transitions import rollouts as transitions
from adapters.registry.transitions.rollouts import Change

NO_ALIAS = "no such alias"


def check_asker(command: RouteCommand) -> None:
    """Raises NotFound for an alias that is not the asker's."""
    check_acts_for(command.principal, command.unit, NO_ALIAS)


def seen_route(connection: Connection, command: RouteCommand) -> Route:
    """The route, where it is the one that the asker saw. Raises VersionConflict."""
    route = route_of(connection, command.alias, command.unit)
    check_generation(route, command.expected_generation)
    return route


def begun_before(
    connection: Connection,
    command: RouteCommand,
    action: Action,
    *,
    target: VersionId | None = None,
    weight: float | None = None,
) -> Rollout | None:
    """The rollout that the same command began before; one that failed may be tried again."""
    if command.expected_generation is None:
        return None
    table = schema.rollouts.c
    conditions = [
        table.alias == command.alias,
        table.unit == command.unit,
        table.action == action.value,
        table.generation == command.expected_generation,
        table.state != RolloutState.FAILED.value,
    ]
    if target is not None:
        conditions.append(table.target == target)
    if weight is not None:
        conditions.append(table.weight == weight)
    return newest_rollout(connection, *conditions)


def make_room(connection: Connection, command: RouteCommand, *, at: float) -> None:
    """Ends what another unit began before the alias was moved, and what was only to be warmed.

    Raises Conflict (`rollout_in_progress`) while another change of the unit's own is loading.
    """
    loading = loading_rollout(connection, command.alias)
    if loading is None:
        return
    this = schema.rollouts.c.id == loading.id
    if loading.unit != command.unit:
        fail_rollouts(connection, this, transitions.ALIAS_MOVED, by=command.principal, at=at)
    elif loading.action is Action.WARM:
        fail_rollouts(connection, this, transitions.OUT_OF_TURN, by=command.principal, at=at)
    else:
        transitions.check_not_loading(loading)


def begin(
    connection: Connection,
    route: Route,
    change: Change,
    *,
    by: Principal,
    revision: int,
    at: float,
) -> Rollout:
    """The rollout of a change, flipped already where nothing must be loaded for it.

    Raises Conflict (`rank_not_served`, `no_slot`); a way back is never refused for want of a slot.
    """
    if change.needs_load(route) and change.action is not Action.ROLL_BACK:
        check_slots(connection, find_version(connection, change.target), now=at)
    asked = transitions.begin(route, change, at=at)
    if change.action.loads:
        forget_failures(connection, change.target)
    rollout = add_rollout(connection, asked)
    begun = audit.Action.ROLLOUT_BEGUN
    audit_rollout(connection, by, begun, rollout, at=at, reason=change.reason)
    return (
        rollout if change.needs_load(route) else flip(connection, rollout, revision=revision, at=at)
    )


def flip(connection: Connection, rollout: Rollout, *, revision: int, at: float) -> Rollout:
    """Moves the route. An alias that comes from another unit takes what answered there along."""
    stored = stored_route(connection, rollout.alias)
    route = stored or Route(alias=rollout.alias, unit=rollout.unit)
    moved = transitions.flip(
        rollout,
        route,
        versions={id: find_version(connection, id) for id in {*route.answering, rollout.target}},
        elsewhere=serve_elsewhere(connection, route.answering, besides=route.alias),
        revision=revision,
        at=at,
    )
    write_route(connection, moved.route, revision=revision)
    for version in moved.versions:
        before = find_version(connection, version.id)
        write_version(connection, version)
        if version != before:
            now_is = audit.Action.VERSION_MOVED
            audit_version(connection, SYSTEM, now_is, before, version, at=at)
    write_rollout(connection, moved.rollout)
    follow_flip(connection, rollout, route, moved.route)
    more = {"rollout": rollout.id, "action": rollout.action.value, "asked_by": rollout.actor}
    flipped = audit.Action.ROLLOUT_FLIPPED
    audit_route(connection, SYSTEM, flipped, route, moved.route, at=at, more=more)
    return moved.rollout
