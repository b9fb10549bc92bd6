"""Finding and changing rows of canaries, of what is counted and of scores.

Callers that change a canary hold the revision's lock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import TypeAdapter
from sqlalchemy import Connection, RowMapping, func, insert, select, update

from adapters.domain.canaries import (
    Arms,
    CanaryOutcome,
    CanaryPlan,
    CanaryRun,
    Evidence,
    Outcomes,
    begin_step,
)
from adapters.domain.names import VersionId
from adapters.domain.routes import Action, Rollout, Route
from adapters.domain.sequential import Tally
from adapters.domain.shadows import Comparisons
from adapters.registry.sql import schema
from adapters.registry.sql.queries import all_of, first_of
from adapters.registry.transitions import canaries as transitions

LOOK_SECONDS = 5.0
"""Between two looks at a canary, whichever replica takes them."""

_PLAN = TypeAdapter(CanaryPlan)
_EVIDENCE = TypeAdapter(Evidence)
_OUTCOMES = TypeAdapter(Outcomes)
_COMPARISONS = TypeAdapter(Comparisons)


def counts_as_json(counts: Outcomes | Comparisons) -> object:
    """As `outcome_counts.counts` keeps it."""
    if isinstance(counts, Outcomes):
        return _OUTCOMES.dump_python(counts, mode="json")
    return _COMPARISONS.dump_python(counts, mode="json")


def add_canary(connection: Connection, rollout: Rollout, plan: CanaryPlan) -> None:
    """The canary that `rollout` begins."""
    run = CanaryRun(
        rollout=rollout.id,
        alias=rollout.alias,
        unit=rollout.unit,
        version=rollout.target,
        plan=plan,
        evidence=Evidence(),
    )
    connection.execute(insert(schema.canaries).values(_values(run)))


def write_canary(connection: Connection, run: CanaryRun) -> None:
    """Replaces the canary's row."""
    table = schema.canaries
    connection.execute(update(table).where(table.c.rollout == run.rollout).values(_values(run)))


def find_canary(connection: Connection, rollout: int) -> CanaryRun | None:
    """The canary that the rollout of this id began."""
    query = select(schema.canaries).where(schema.canaries.c.rollout == rollout)
    return first_of(connection, query, canary_from)


def due_canaries(connection: Connection, *, now: float) -> Sequence[CanaryRun]:
    """Those that run and were not looked at for a while."""
    table, routes = schema.canaries, schema.routes
    query = (
        select(table)
        .join(routes, routes.c.canary_rollout == table.c.rollout)
        .where(func.coalesce(table.c.judged_at, table.c.stepped_at) <= now - LOOK_SECONDS)
        .order_by(table.c.rollout)
    )
    return all_of(connection, query, canary_from)


def _values(run: CanaryRun) -> dict[str, object]:
    values = {name: getattr(run, name) for name in CanaryRun.__dataclass_fields__}
    return values | {
        "plan": _PLAN.dump_python(run.plan, mode="json"),
        "evidence": _EVIDENCE.dump_python(run.evidence, mode="json"),
        "outcome": run.outcome.value if run.outcome else None,
    }


def canary_from(row: RowMapping) -> CanaryRun:
    """A canary from its row."""
    outcome = row["outcome"]
    return CanaryRun(
        **{
            **row,
            "plan": _PLAN.validate_python(row["plan"]),
            "evidence": _EVIDENCE.validate_python(row["evidence"]),
            "outcome": CanaryOutcome(outcome) if outcome else None,
        }
    )


# -- what was counted


def arms_of(connection: Connection, run: CanaryRun) -> Arms:
    """What all processes have counted of the two, with the scores from outside."""
    table = schema.outcome_counts.c
    totals: dict[bool, Outcomes] = defaultdict(Outcomes)
    query = select(table.version_id, table.counts).where(table.rollout == run.rollout)
    for version_id, counts in connection.execute(query):
        totals[version_id == run.version] += _OUTCOMES.validate_python(counts)
    scores = _scores_of(connection, run.rollout)
    for version_id, tally in scores.items():
        totals[version_id == run.version] += Outcomes(scores=tally)
    return Arms(canary=totals[True], stable=totals[False])


def _scores_of(connection: Connection, rollout: int) -> Mapping[VersionId, Tally]:
    table = schema.scores.c
    bad = func.sum(1.0 - table.value)
    query = select(table.version_id, func.count(), bad).where(table.rollout == rollout)
    found = connection.execute(query.group_by(table.version_id))
    return {version_id: Tally(count=count, bad=bad) for version_id, count, bad in found}


def comparisons_of(connection: Connection, rollout: int, version: VersionId) -> Comparisons:
    """What all processes have found by a shadow's copies."""
    table = schema.outcome_counts.c
    query = select(table.counts).where(table.rollout == rollout, table.version_id == version)
    found = (_COMPARISONS.validate_python(counts) for counts in connection.execute(query).scalars())
    return sum(found, Comparisons())


# -- what a flip changes of a canary


def follow_flip(connection: Connection, rollout: Rollout, before: Route, after: Route) -> None:
    """Begins, moves or ends the canary that the flip concerns."""
    at = after.updated_at
    if rollout.action in (Action.CANARY, Action.WEIGHT) and after.canary is not None:
        run = find_canary(connection, after.canary.rollout)
        if run is not None:
            evidence = begin_step(run.evidence, arms_of(connection, run))
            write_canary(connection, replace(run, stepped_at=at, judged_at=None, evidence=evidence))
    if before.canary is not None and after.canary is None:
        outcome = transitions.outcome(rollout, before.canary)
        end_canary(connection, before.canary.rollout, outcome, rollout.reason, at=at)


def end_canary(
    connection: Connection, rollout: int, outcome: CanaryOutcome, reason: str | None, *, at: float
) -> None:
    """The canary that this rollout began is over."""
    run = find_canary(connection, rollout)
    if run is not None and run.outcome is None:
        write_canary(connection, replace(run, outcome=outcome, reason=reason, ended_at=at))
