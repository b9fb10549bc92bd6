"""Canaries and shadows in the database: the commands, and what is counted of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, func, select

from adapters.domain import audit
from adapters.domain.canaries import Arms, CanaryPlan, CanaryRun, Score
from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.principals import Principal
from adapters.domain.routes import Action, Rollout, Route, check_promotable
from adapters.domain.shadows import Comparisons
from adapters.domain.versions import Version
from adapters.errors import Conflict, NotFound
from adapters.registry.ports.canaries import Counted, RouteCommand
from adapters.registry.ports.replicas import ProcessId
from adapters.registry.sql import schema
from adapters.registry.sql.approvals import check_goes_live
from adapters.registry.sql.audit import append
from adapters.registry.sql.canary_rows import (
    add_canary,
    arms_of,
    canary_from,
    comparisons_of,
    counts_as_json,
    find_canary,
    write_canary,
)
from adapters.registry.sql.job_rows import job_called
from adapters.registry.sql.queries import (
    SqlPort,
    add_all_missing,
    bump_revision,
    check_acts_for,
    first_of,
    lock_revision,
    put,
)
from adapters.registry.sql.route_changes import (
    NO_ALIAS,
    begin,
    begun_before,
    check_asker,
    make_room,
    seen_route,
)
from adapters.registry.sql.routes import route_of
from adapters.registry.sql.version_rows import MISSING, find_version
from adapters.registry.transitions import canaries as transitions
from adapters.registry.transitions.rollouts import Change
from adapters.registry.transitions.rollouts import check_asker as check_asking_job

MAX_SCORES = 100_000
"""Of one canary."""


class SqlCanaries(SqlPort):
    """Implements `Canaries`."""

    def start(self, command: RouteCommand, version_id: VersionId, plan: CanaryPlan) -> Rollout:
        """Starts loading a version that is to answer a part of the requests."""
        check_asker(command)
        weight = plan.steps[0].weight
        with self._database.write() as connection:
            lock_revision(connection)
            check_asking_job(job_called(connection, command.principal.id))
            version = _version(connection, command, version_id)
            begun = begun_before(
                connection, command, Action.CANARY, target=version_id, weight=weight
            )
            if begun is not None:
                return begun
            route = self._route(connection, command)
            transitions.check_no_canary(route)
            transitions.check_stands_beside(route, version, _stable(connection, route))
            check_promotable(route, version)
            check_goes_live(connection, version, needs_approval=command.needs_approval)
            rollout = self._begin(connection, command, route, (Action.CANARY, version_id, weight))
            add_canary(connection, rollout, plan)
            return rollout

    def set_weight(self, command: RouteCommand, weight: float) -> Rollout:
        """The canary answers that many per cent, and goes on by commands alone."""
        check_asker(command)
        with self._database.write() as connection:
            lock_revision(connection)
            begun = begun_before(connection, command, Action.WEIGHT, weight=weight)
            if begun is not None:
                return begun
            route = self._route(connection, command)
            canary = transitions.canary_of(route)
            run = find_canary(connection, canary.rollout)
            if run is not None:
                by_hand = replace(run.plan, advances=False)
                write_canary(connection, replace(run, plan=by_hand))
            return self._begin(connection, command, route, (Action.WEIGHT, canary.version, weight))

    def shadow(self, command: RouteCommand, version_id: VersionId, share: float) -> Rollout:
        """Starts loading a version that is to get copies of requests."""
        check_asker(command)
        with self._database.write() as connection:
            lock_revision(connection)
            version = _version(connection, command, version_id)
            begun = begun_before(
                connection, command, Action.SHADOW, target=version_id, weight=share
            )
            if begun is not None:
                return begun
            route = self._route(connection, command)
            transitions.check_stands_beside(route, version, _stable(connection, route))
            transitions.check_copied(route, version)
            return self._begin(connection, command, route, (Action.SHADOW, version_id, share))

    def end_shadow(self, command: RouteCommand) -> Rollout:
        """No request is copied any more."""
        check_asker(command)
        with self._database.write() as connection:
            lock_revision(connection)
            begun = begun_before(connection, command, Action.UNSHADOW)
            if begun is not None:
                return begun
            route = self._route(connection, command)
            version = transitions.shadow_of(route).version
            return self._begin(connection, command, route, (Action.UNSHADOW, version, None))

    def _route(self, connection: Connection, command: RouteCommand) -> Route:
        route = seen_route(connection, command)
        make_room(connection, command, at=self._database.now(connection))
        return route

    def _begin(
        self,
        connection: Connection,
        command: RouteCommand,
        route: Route,
        wanted: tuple[Action, VersionId, float | None],
    ) -> Rollout:
        action, target, weight = wanted
        change = Change(
            action=action,
            target=target,
            actor=command.principal.id,
            weight=weight,
            reason=command.reason,
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

    # -- what is counted

    def report(self, process: ProcessId, counted: Sequence[Counted]) -> None:
        """Keeps the totals of a process; what belongs to nothing any more is left out."""
        with self._database.write() as connection:
            running = _running(connection)
            for one in counted:
                if one.rollout in running:
                    put(
                        connection,
                        schema.outcome_counts,
                        {
                            "rollout": one.rollout,
                            "version_id": one.version,
                            "replica": process.replica,
                            "incarnation": process.incarnation,
                            "process": process.number,
                            "counts": counts_as_json(one.counts),
                        },
                    )

    def add_scores(
        self, alias: Alias, unit: Unit, principal: Principal, scores: Sequence[Score]
    ) -> int:
        """Keeps scores, once each; how many were new."""
        check_acts_for(principal, unit, NO_ALIAS)
        with self._database.write() as connection:
            route = route_of(connection, alias, unit)
            canary = transitions.canary_of(route)
            if any(score.version not in route.answering for score in scores):
                raise Conflict(
                    f"a score must be of one of the two versions that {alias} is answered by",
                    code="not_compared",
                )
            known = _scores_kept(connection, canary.rollout)
            if known + len(scores) > MAX_SCORES:
                raise Conflict(
                    f"a canary keeps at most {MAX_SCORES} scores", code="too_many_scores"
                )
            values = [
                {
                    "rollout": canary.rollout,
                    "id": score.id,
                    "version_id": score.version,
                    "value": score.value,
                }
                for score in scores
            ]
            if values:
                add_all_missing(connection, schema.scores, values)
            new = _scores_kept(connection, canary.rollout) - known
            if new:
                append(
                    connection,
                    principal,
                    audit.Action.CANARY_SCORED,
                    f"route/{alias}",
                    at=self._database.now(connection),
                    unit=unit,
                    after={"canary": canary.rollout, "scores": new},
                )
            return new

    def newest(self, alias: Alias, unit: Unit) -> tuple[CanaryRun, Arms]:
        """The alias's newest canary, with what was counted of it. Raises NotFound."""
        table = schema.canaries
        query = select(table).where(table.c.alias == alias, table.c.unit == unit)
        with self._database.read() as connection:
            newest = query.order_by(table.c.rollout.desc()).limit(1)
            run = first_of(connection, newest, canary_from)
            if run is None:
                raise NotFound(f"{alias} never had a canary")
            return run, arms_of(connection, run)

    def compared(self, rollout: int, version: VersionId) -> Comparisons:
        """What was found by the copies of a shadow."""
        with self._database.read() as connection:
            return comparisons_of(connection, rollout, version)


def _version(connection: Connection, command: RouteCommand, version_id: VersionId) -> Version:
    version = find_version(connection, version_id)
    check_acts_for(command.principal, version.unit, MISSING)
    return version


def _stable(connection: Connection, route: Route) -> Version | None:
    return None if route.stable is None else find_version(connection, route.stable)


def _scores_kept(connection: Connection, rollout: int) -> int:
    query = select(func.count()).where(schema.scores.c.rollout == rollout)
    return int(connection.execute(query).scalar_one())


def _running(connection: Connection) -> set[int]:
    """The rollouts that began a canary or a shadow which is still there."""
    table = schema.routes.c
    query = select(table.canary_rollout, table.shadow_rollout)
    found = connection.execute(query).all()
    return {rollout for row in found for rollout in row if rollout is not None}
