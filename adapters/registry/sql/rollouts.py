"""The commands that move routes, in the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, select

from adapters.domain import audit
from adapters.domain.names import Alias, Digest, Unit, VersionId
from adapters.domain.pages import Page
from adapters.domain.principals import SYSTEM, Principal
from adapters.domain.routes import (
    Action,
    Rollout,
    RolloutState,
    Route,
    check_promotable,
)
from adapters.domain.versions import Version
from adapters.errors import Conflict, NotFound
from adapters.registry.ports.canaries import RouteCommand
from adapters.registry.sql import rows, schema
from adapters.registry.sql.approvals import check_goes_live
from adapters.registry.sql.canary_decisions import decide
from adapters.registry.sql.canary_rows import due_canaries
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
from adapters.registry.sql.rollback_target import rollback_target_of
from adapters.registry.sql.rollout_rows import (
    MOVED,
    SET_STABLE,
    audit_rollout,
    end_loading,
    find_rollout,
    loading_rollout,
    newest_rollout,
    open_rollouts,
    write_rollout,
)
from adapters.registry.sql.route_changes import (
    begin,
    begun_before,
    check_asker,
    flip,
    make_room,
    seen_route,
)
from adapters.registry.sql.version_rows import MISSING, find_version
from adapters.registry.transitions import canaries as canary_transitions
from adapters.registry.transitions import rollouts as transitions
from adapters.registry.transitions.rollouts import Change, ReplicaStatus, Step


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
        needs_approval: bool = False,
    ) -> Rollout:
        """Starts putting a version live; the port says what is refused and what is repeated."""
        command = RouteCommand(
            alias=alias,
            unit=unit,
            principal=principal,
            expected_generation=expected_generation,
            reason=reason,
        )
        check_asker(command)
        with self._database.write() as connection:
            lock_revision(connection)
            transitions.check_asker(job_called(connection, principal.id))
            version = find_version(connection, version_id)
            check_acts_for(principal, version.unit, MISSING)
            begun = begun_before(connection, command, Action.PROMOTE, target=version_id)
            if begun is not None:
                return begun
            route = seen_route(connection, command)
            make_room(connection, command, at=self._database.now(connection))
            canary_transitions.check_no_canary(route, but=version_id)
            if route.stable == version_id:
                return _serving(connection, route)
            if expected_generation is None:
                transitions.check_not_rolled_back(version)
            check_promotable(route, version)
            check_goes_live(connection, version, needs_approval=needs_approval)
            return self._begin(connection, route, command, Action.PROMOTE, version_id)

    def roll_back(
        self,
        alias: Alias,
        principal: Principal,
        *,
        unit: Unit,
        expected_generation: int,
        reason: str | None = None,
    ) -> Rollout:
        """Starts returning to the newest good version before the live one, or ends the canary."""
        command = RouteCommand(
            alias=alias,
            unit=unit,
            principal=principal,
            expected_generation=expected_generation,
            reason=reason,
        )
        check_asker(command)
        with self._database.write() as connection:
            lock_revision(connection)
            transitions.check_asker(job_called(connection, principal.id))
            begun = begun_before(connection, command, Action.ROLL_BACK)
            if begun is not None:
                return begun
            route = seen_route(connection, command)
            at = self._database.now(connection)
            if route.canary is not None and route.stable is not None:
                _end_loading_of(connection, command, transitions.CANARY_ENDED, at=at)
                return self._begin(connection, route, command, Action.ROLL_BACK, route.stable)
            make_room(connection, command, at=at)
            target = rollback_target_of(connection, route)
            return self._begin(connection, route, command, Action.ROLL_BACK, target)

    def abort(self, command: RouteCommand) -> Rollout:
        """Ends what is under way for an alias: what is loading, and the canary."""
        check_asker(command)
        with self._database.write() as connection:
            lock_revision(connection)
            begun = begun_before(connection, command, Action.ABORT) or _aborted(connection, command)
            if begun is not None:
                return begun
            route = seen_route(connection, command)
            at = self._database.now(connection)
            ended = _end_loading_of(connection, command, transitions.ABORTED, at=at)
            if route.canary is not None and route.stable is not None:
                return self._begin(connection, route, command, Action.ABORT, route.stable)
            if ended is None:
                raise Conflict(f"nothing of {command.alias} is under way", code="nothing_to_abort")
            bump_revision(connection)
            return find_rollout(connection, ended.id)

    def warm(self, command: RouteCommand, version_id: VersionId) -> Rollout:
        """Starts loading a version everywhere, and leaves the route as it is."""
        check_asker(command)
        with self._database.write() as connection:
            lock_revision(connection)
            version = find_version(connection, version_id)
            check_acts_for(command.principal, version.unit, MISSING)
            route = seen_route(connection, command)
            loading = loading_rollout(connection, command.alias)
            if loading is not None and _is_same_warming(loading, command, version_id):
                return loading
            make_room(connection, command, at=self._database.now(connection))
            canary_transitions.check_copied(route, version)
            return self._begin(connection, route, command, Action.WARM, version_id)

    def _begin(
        self,
        connection: Connection,
        route: Route,
        command: RouteCommand,
        action: Action,
        target: VersionId,
    ) -> Rollout:
        change = Change(
            action=action, target=target, actor=command.principal.id, reason=command.reason
        )
        at = self._database.now(connection)
        return begin(
            connection,
            route,
            change,
            by=command.principal,
            revision=bump_revision(connection),
            at=at,
        )

    def advance(self) -> Sequence[Rollout]:
        """Moves every open rollout as far as acknowledgements and observations allow, and every
        canary as far as its counts do.
        """
        with self._database.read() as connection:
            now = self._database.now(connection)
            if not due_canaries(connection, now=now) and not self._steps(connection):
                return []
        with self._database.write() as connection:
            # what was seen without the lock may have changed: look again
            revision = lock_revision(connection) + 1
            lock_processes(connection)
            at = self._database.now(connection)
            moved = [
                _take(connection, rollout, step, revision=revision, at=at)
                for rollout, step in self._steps(connection)
            ]
            for run in due_canaries(connection, now=at):
                moved += decide(connection, run, revision=revision, at=at)
            if moved:
                bump_revision(connection)
            return moved

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


def _is_same_warming(loading: Rollout, command: RouteCommand, version_id: VersionId) -> bool:
    begun = (loading.action, loading.unit, loading.target)
    return begun == (Action.WARM, command.unit, version_id)


def _end_loading_of(
    connection: Connection, command: RouteCommand, error: str, *, at: float
) -> Rollout | None:
    """Ends the unit's rollout of the alias that is loading; the rollout as it was."""
    loading = loading_rollout(connection, command.alias)
    if loading is None or loading.unit != command.unit:
        return None
    this = schema.rollouts.c.id == loading.id
    end_loading(connection, this, error, by=command.principal, at=at)
    return loading


def _aborted(connection: Connection, command: RouteCommand) -> Rollout | None:
    """What the same command ended before, where that was only loading."""
    newest = newest_rollout(
        connection,
        schema.rollouts.c.alias == command.alias,
        schema.rollouts.c.unit == command.unit,
        schema.rollouts.c.generation == command.expected_generation,
    )
    is_that = newest is not None and newest.error == transitions.ABORTED
    return newest if is_that else None


def _serving(connection: Connection, route: Route) -> Rollout:
    """The newest rollout that made the route what it is."""
    table = schema.rollouts.c
    newest = newest_rollout(
        connection, table.alias == route.alias, table.unit == route.unit, MOVED, SET_STABLE
    )
    if newest is None:
        raise NotFound("no such rollout")
    return newest


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
        return flip(connection, rollout, revision=revision, at=at)
    action = audit.Action.ROLLOUT_COMPLETED
    if step.to is RolloutState.FAILED:
        action = audit.Action.ROLLOUT_FAILED
        after = transitions.fail(rollout, step.error or "it could not be loaded", at=at)
    else:
        after = replace(rollout, state=step.to, finished_at=at)
    write_rollout(connection, after)
    audit_rollout(connection, SYSTEM, action, after, at=at, reason=after.error)
    return after
