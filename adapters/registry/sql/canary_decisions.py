"""Looks at a canary and does what its counts say: goes on, rolls back, or waits.

One look at a time, whichever replica takes it: the caller holds the revision's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from adapters.domain.canaries import CanaryRun, Verdict, assess
from adapters.domain.principals import SYSTEM
from adapters.domain.routes import Action, Rollout, RolloutState, Route, check_promotable
from adapters.errors import Conflict
from adapters.registry.sql import schema
from adapters.registry.sql.approvals import check_goes_live
from adapters.registry.sql.canary_rows import arms_of, write_canary
from adapters.registry.sql.rollout_rows import (
    end_loading,
    loading_rollout,
    newest_rollout,
    stored_route,
)
from adapters.registry.sql.route_changes import begin
from adapters.registry.sql.version_rows import find_version
from adapters.registry.transitions.rollouts import CANARY_ENDED, Change

REASON_CHARACTERS = 500
RETRY_SECONDS = 60.0
"""After a canary's promotion has failed."""
IS_FAILED = schema.rollouts.c.state == RolloutState.FAILED.value


def decide(
    connection: Connection, run: CanaryRun, *, revision: int, at: float
) -> Sequence[Rollout]:
    """The rollouts that a look at the canary has begun: one at most."""
    route = stored_route(connection, run.alias)
    if route is None or route.canary is None or run.stepped_at is None:
        return []
    found = assess(
        run.plan,
        arms_of(connection, run),
        run.evidence,
        step=run.step,
        minutes=(at - run.stepped_at) / 60.0,
    )
    looked = replace(run, judged_at=at, evidence=found.evidence, told=found.reason)
    write_canary(connection, looked)
    if found.verdict is Verdict.WAIT:
        return []
    loading = loading_rollout(connection, run.alias)
    if found.verdict is Verdict.ROLL_BACK:
        if loading is not None:
            this = schema.rollouts.c.id == loading.id
            end_loading(connection, this, CANARY_ENDED, by=SYSTEM, at=at)
    elif loading is not None:
        return []  # its own promotion, say
    change = _change(looked, route, found.verdict, found.reason)
    held_up = _held_up(connection, route, change, at=at)
    if held_up is not None:
        write_canary(connection, replace(looked, told=held_up))
        return []
    if change.action is Action.WEIGHT:
        write_canary(connection, replace(looked, step=run.step + 1))
    return [begin(connection, route, change, by=SYSTEM, revision=revision, at=at)]


def _held_up(connection: Connection, route: Route, change: Change, *, at: float) -> str | None:
    """Why the canary answers no more requests now, though its numbers are good."""
    if change.action is Action.ROLL_BACK:
        return None
    version = find_version(connection, change.target)
    try:
        # whether a yes was needed, its start has asked; somebody may have said no since
        check_goes_live(connection, version, needs_approval=False)
        if change.action is Action.WEIGHT:
            return None
        check_promotable(route, version)
    except Conflict as conflict:
        return conflict.message
    table = schema.rollouts.c
    lately = table.finished_at > at - RETRY_SECONDS
    failed = newest_rollout(
        connection, table.alias == route.alias, table.actor == change.actor, IS_FAILED, lately
    )
    return None if failed is None else f"its promotion failed: {failed.error}"


def _change(run: CanaryRun, route: Route, verdict: Verdict, reason: str) -> Change:
    """The next step of the schedule, the promotion behind its last, or the end."""
    action, target, weight = Action.PROMOTE, run.version, None
    if verdict is Verdict.ROLL_BACK:
        assert route.stable is not None  # noqa: S101 - there is no canary beside nothing
        action, target = Action.ROLL_BACK, route.stable
    elif run.step + 1 < len(run.plan.steps):
        action, weight = Action.WEIGHT, run.plan.steps[run.step + 1].weight
    return Change(
        action=action,
        target=target,
        actor=f"canary:{run.rollout}",
        weight=weight,
        reason=reason[:REASON_CHARACTERS],
    )
