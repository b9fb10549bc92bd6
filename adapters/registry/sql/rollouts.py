"""The commands that move routes, in the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, select

from adapters.domain.audit import Action
from adapters.domain.names import Alias, Digest, Unit, VersionId
from adapters.domain.pages import Page
from adapters.domain.principals import SYSTEM, Principal
from adapters.domain.routes import (
    PROMOTE,
    ROLL_BACK,
    Rollout,
    RolloutState,
    Route,
    check_generation,
    check_promotable,
    rollback_target,
)
from adapters.domain.versions import Version, VersionState
from adapters.errors import NotFound
from adapters.registry.sql import rows, schema
from adapters.registry.sql.job_rows import job_called
from adapters.registry.sql.queries import (
    SqlPort,
    all_of,
    bump_revision,
    check_acts_for,
    cursor_number,
    lock_revision,
    page,
)
from adapters.registry.sql.replica_rows import lock_processes, replica_statuses
from adapters.registry.sql.rollout_rows import (
    MOVED,
    add_rollout,
    audit_rollout,
    audit_route,
    fail_rollouts,
    find_rollout,
    forget_failures,
    loading_rollout,
    newest_rollout,
    open_rollouts,
    serves_elsewhere,
    stored_route,
    write_rollout,
    write_route,
)
from adapters.registry.sql.routes import route_of
from adapters.registry.sql.slots import check_slots
from adapters.registry.sql.version_rows import (
    MISSING,
    audit_version,
    find_version,
    write_version,
)
from adapters.registry.transitions import rollouts as transitions
from adapters.registry.transitions.rollouts import ReplicaStatus, Step

_NO_ALIAS = "no such alias"


class SqlRollouts(SqlPort):
    """Implements `Rollouts`."""

    def promote(
        self,
        alias: Alias,
        version_id: VersionId,
        principal: Principal,
        *,
        unit: Unit,
        expected_generation: int | None,
        reason: str | None = None,
    ) -> Rollout:
        """Starts putting a version live; the port says what is refused and what is repeated."""
        check_acts_for(principal, unit, _NO_ALIAS)
        with self._database.write() as connection:
            lock_revision(connection)
            transitions.check_asker(job_called(connection, principal.id))
            version = find_version(connection, version_id)
            check_acts_for(principal, version.unit, MISSING)
            begun = _begun(connection, alias, unit, PROMOTE, expected_generation, target=version_id)
            if begun is not None:
                return begun
            route = route_of(connection, alias, unit)
            check_generation(route, expected_generation)
            at = self._database.now(connection)
            _make_room(connection, alias, unit, by=principal, at=at)
            if route.stable == version_id:
                return _serving(connection, route)
            if expected_generation is None:
                transitions.check_not_rolled_back(version)
            check_promotable(route, version)
            check_slots(connection, version, now=at)
            asked = transitions.begin(route, version_id, action=PROMOTE, actor=principal.id, at=at)
            return _begin(connection, asked, by=principal, reason=reason)

    def roll_back(
        self,
        alias: Alias,
        principal: Principal,
        *,
        unit: Unit,
        expected_generation: int,
        reason: str | None = None,
    ) -> Rollout:
        """Starts returning to the newest good version before the live one."""
        check_acts_for(principal, unit, _NO_ALIAS)
        with self._database.write() as connection:
            lock_revision(connection)
            transitions.check_asker(job_called(connection, principal.id))
            begun = _begun(connection, alias, unit, ROLL_BACK, expected_generation)
            if begun is not None:
                return begun
            route = route_of(connection, alias, unit)
            check_generation(route, expected_generation)
            at = self._database.now(connection)
            _make_room(connection, alias, unit, by=principal, at=at)
            target = rollback_target_of(connection, route)
            asked = transitions.begin(route, target, action=ROLL_BACK, actor=principal.id, at=at)
            return _begin(connection, asked, by=principal, reason=reason)

    def advance(self) -> Sequence[Rollout]:
        """Moves every open rollout as far as acknowledgements and observations allow."""
        with self._database.read() as connection:
            if not self._steps(connection):
                return []
        with self._database.write() as connection:
            # what was seen without the lock may have changed: look again
            revision = lock_revision(connection) + 1
            lock_processes(connection)
            steps = self._steps(connection)
            if not steps:
                return []
            at = self._database.now(connection)
            bump_revision(connection)
            return [
                _take(connection, rollout, step, revision=revision, at=at)
                for rollout, step in steps
            ]

    def _steps(self, connection: Connection) -> Sequence[tuple[Rollout, Step]]:
        opened = all_of(connection, open_rollouts(), rows.rollout_from)
        if not opened:
            return []
        now = self._database.now(connection)
        statuses = replica_statuses(connection, now=now)
        found = _remembering(connection)
        steps = []
        for rollout in opened:
            target, bases = found(rollout.target), _bases(rollout, found)
            step = transitions.next_step(rollout, target, bases, statuses, now=now)
            if step is not None:
                steps.append((rollout, step))
        return steps

    def get(self, rollout_id: int) -> Rollout:
        """Raises NotFound."""
        with self._database.read() as connection:
            return find_rollout(connection, rollout_id)

    def waits_for(self, rollout_id: int) -> Sequence[str]:
        """Ids of replicas that have not loaded (loading) or not observed (flipped); sorted."""
        with self._database.read() as connection:
            rollout = find_rollout(connection, rollout_id)
            if not rollout.state.open:
                return []
            statuses = replica_statuses(connection, now=self._database.now(connection))
            return _waits_for(connection, rollout, statuses)

    def history(self, alias: Alias, unit: Unit, *, after: str | None, limit: int) -> Page[Rollout]:
        """The unit's rollouts of an alias, newest first; `after` is a rollout's id as text."""
        table = schema.rollouts
        query = select(table).where(table.c.alias == alias, table.c.unit == unit)
        if after is not None:
            query = query.where(table.c.id < cursor_number(after))
        with self._database.read() as connection:
            return page(connection, query.order_by(table.c.id.desc()), rows.rollout_from, limit)


def _begin(connection: Connection, asked: Rollout, *, by: Principal, reason: str | None) -> Rollout:
    forget_failures(connection, asked.target)
    bump_revision(connection)
    begun = add_rollout(connection, asked)
    action, at = Action.ROLLOUT_BEGUN, begun.created_at
    audit_rollout(connection, by, action, begun, at=at, reason=reason)
    return begun


def _begun(
    connection: Connection,
    alias: Alias,
    unit: Unit,
    action: str,
    generation: int | None,
    *,
    target: VersionId | None = None,
) -> Rollout | None:
    """The rollout that the same command began before; one that failed may be tried again."""
    if generation is None:
        return None
    table = schema.rollouts.c
    conditions = [
        table.alias == alias,
        table.unit == unit,
        table.action == action,
        table.generation == generation,
        table.state != RolloutState.FAILED.value,
    ]
    if target is not None:
        conditions.append(table.target == target)
    return newest_rollout(connection, *conditions)


def _make_room(
    connection: Connection, alias: Alias, unit: Unit, *, by: Principal, at: float
) -> None:
    """Ends what another unit began before the alias was moved.

    Raises Conflict (`rollout_in_progress`) while the unit's own rollout is loading.
    """
    loading = loading_rollout(connection, alias)
    if loading is not None and loading.unit != unit:
        moved = schema.rollouts.c.id == loading.id
        fail_rollouts(connection, moved, transitions.ALIAS_MOVED, by=by, at=at)
        return
    transitions.check_not_loading(loading)


def _serving(connection: Connection, route: Route) -> Rollout:
    """The newest rollout that made the route what it is."""
    table = schema.rollouts.c
    newest = newest_rollout(connection, table.alias == route.alias, table.unit == route.unit, MOVED)
    if newest is None:
        raise NotFound("no such rollout")
    return newest


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


def _remembering(connection: Connection) -> Callable[[VersionId], Version]:
    """`find_version`, each version once."""
    known: dict[VersionId, Version] = {}

    def found(version_id: VersionId) -> Version:
        if version_id not in known:
            known[version_id] = find_version(connection, version_id)
        return known[version_id]

    return found


def _bases(rollout: Rollout, found: Callable[[VersionId], Version]) -> set[Digest]:
    """Of the target and of what it replaces: replicas of both may answer by the old route."""
    named = [rollout.target, *([rollout.replaced] if rollout.replaced else [])]
    return {found(version_id).base_fingerprint for version_id in named}


def _waits_for(
    connection: Connection, rollout: Rollout, statuses: Sequence[ReplicaStatus]
) -> Sequence[str]:
    found = _remembering(connection)
    if rollout.state is RolloutState.LOADING:
        return transitions.not_loaded(found(rollout.target), statuses)
    return transitions.not_observed(rollout, _bases(rollout, found), statuses)


def _take(
    connection: Connection, rollout: Rollout, step: Step, *, revision: int, at: float
) -> Rollout:
    """Writes one step; the answer is the rollout after it."""
    if step.to is RolloutState.FLIPPED:
        return _flip(connection, rollout, revision=revision, at=at)
    if step.to is RolloutState.FAILED:
        action = Action.ROLLOUT_FAILED
        after = transitions.fail(rollout, step.error or "it could not be loaded", at=at)
    else:
        action = Action.ROLLOUT_COMPLETED
        after = replace(rollout, state=step.to, finished_at=at)
    write_rollout(connection, after)
    audit_rollout(connection, SYSTEM, action, after, at=at, reason=after.error)
    return after


def _flip(connection: Connection, rollout: Rollout, *, revision: int, at: float) -> Rollout:
    """Moves the route. An alias that comes from another unit takes that one's version along."""
    stored = stored_route(connection, rollout.alias)
    route = stored or Route(alias=rollout.alias, unit=rollout.unit)
    replaced = None if route.stable is None else find_version(connection, route.stable)
    flip = transitions.flip(
        rollout,
        route,
        target=find_version(connection, rollout.target),
        replaced=replaced,
        replaced_elsewhere=replaced is not None
        and serves_elsewhere(connection, replaced.id, besides=route.alias),
        revision=revision,
        at=at,
    )
    write_route(connection, flip.route, revision=revision)
    for version in flip.versions:
        before = find_version(connection, version.id)
        write_version(connection, version)
        audit_version(connection, SYSTEM, Action.VERSION_MOVED, before, version, at=at)
    write_rollout(connection, flip.rollout)
    more = {"rollout": rollout.id, "action": rollout.action, "asked_by": rollout.actor}
    action = Action.ROLLOUT_FLIPPED
    audit_route(connection, SYSTEM, action, route, flip.route, at=at, more=more)
    return flip.rollout
