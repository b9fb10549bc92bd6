"""What every registry does with canaries and shadows: commands, counts, and what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adapters.domain.approvals import Verdict
from adapters.domain.canaries import (
    LATENCY_EDGES,
    CanaryOutcome,
    CanaryPlan,
    Outcomes,
    Score,
    Step,
    latency_class,
)
from adapters.domain.gates import at_least
from adapters.domain.jobs import JobStatus, StopRequest
from adapters.domain.names import VersionId
from adapters.domain.principals import Principal, Role
from adapters.domain.routes import Action, Rollout, RolloutState, Route
from adapters.domain.shadows import Comparisons
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, NotFound, VersionConflict
from adapters.registry import Registry
from adapters.registry.ports import Counted, RouteCommand
from adapters.registry.transitions.rollouts import ABORTED, CANARY_ENDED
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    ADMIN,
    ALIAS,
    ALIASES,
    OTHER_BASE,
    OWNER,
    SALES,
    STRANGER,
    SUPPORT,
    a_gate,
    a_process,
    acknowledge,
    carried_out,
    fence_of,
    flip_and_complete,
    joined,
    judged,
    load,
    promote,
    promoted,
    published,
    roll_back,
    trained,
    went_live,
)

PLAN = CanaryPlan(steps=(Step(weight=5.0), Step(weight=50.0)))
BY_HAND = replace(PLAN, steps=(Step(weight=5.0),), advances=False)
LOOK = 5.1
"""Seconds between two looks at a canary, and a little."""


def asked(expected: int, **changes: Any) -> RouteCommand:
    values: dict[str, Any] = {
        "alias": ALIAS,
        "unit": SUPPORT,
        "principal": OWNER,
        "expected_generation": expected,
    }
    return RouteCommand(**(values | changes))


def route_of(registry: Registry) -> Route:
    return registry.routes.route(ALIAS, SUPPORT)


def started(
    registry: Registry, plan: CanaryPlan = PLAN, *, expected: int = 1
) -> tuple[Version, Version, Rollout]:
    """A stable version and a canary that answers beside it."""
    (stable,) = went_live(registry, 1)
    canary = published(registry)
    rollout = registry.canaries.start(asked(expected), canary.id, plan)
    carried_out(registry, rollout)
    return stable, canary, rollout


def outcomes(requests: int, *, errors: int = 0, seconds: float = 0.5) -> Outcomes:
    latency = [0] * (len(LATENCY_EDGES) + 1)
    latency[latency_class(seconds)] = requests - errors
    return Outcomes(requests=requests, errors=errors, latency=tuple(latency))


def count(registry: Registry, rollout: Rollout, *, number: int = 0, **arms: Any) -> None:
    """One process has counted so much, in all, of each of the two versions."""
    run, _ = registry.canaries.newest(ALIAS, SUPPORT)
    stable = route_of(registry).stable
    assert stable is not None
    told = {"canary": run.version, "stable": stable}
    counted = [
        Counted(rollout=rollout.id, version=told[arm], counts=counts)
        for arm, counts in arms.items()
    ]
    registry.canaries.report(a_process(number=number), counted)


def look(registry: Registry, clock: Clock) -> list[Rollout]:
    clock.pass_by(LOOK)
    return list(registry.rollouts.advance())


# -- beginning


def test_a_canary_answers_its_part_once_every_replica_has_it(registry: Registry) -> None:
    (stable,) = went_live(registry, 1)
    canary, process = published(registry), joined(registry)
    rollout = registry.canaries.start(asked(1, reason="new data"), canary.id, PLAN)
    assert (rollout.action, rollout.state) == (Action.CANARY, RolloutState.LOADING)
    assert (rollout.weight, rollout.reason, rollout.actor) == (5.0, "new data", OWNER.id)
    registry.rollouts.advance()
    assert route_of(registry).canary is None
    load(registry, process, canary)
    flip_and_complete(registry, process)
    route = route_of(registry)
    assert route.canary is not None
    assert (route.stable, route.canary.version, route.canary.weight) == (stable.id, canary.id, 5.0)
    assert (route.generation, route.canary.rollout) == (2, rollout.id)
    for version in (stable, canary):
        assert registry.versions.by_id(version.id).state is VersionState.LIVE
    assert registry.rollouts.get(rollout.id).state is RolloutState.COMPLETE


def test_a_canary_that_cannot_be_loaded_changes_nothing(registry: Registry) -> None:
    went_live(registry, 1)
    canary, process = published(registry), joined(registry)
    rollout = registry.canaries.start(asked(1), canary.id, PLAN)
    acknowledge(registry, process, canary, error="torn")
    registry.rollouts.advance()
    assert registry.rollouts.get(rollout.id).state is RolloutState.FAILED
    assert route_of(registry).canary is None
    assert registry.versions.by_id(canary.id).state is VersionState.CANDIDATE


def test_repeating_a_start_gives_its_rollout(registry: Registry) -> None:
    _, canary, rollout = started(registry)
    again = registry.canaries.start(asked(1), canary.id, PLAN)
    assert again.id == rollout.id
    with pytest.raises(VersionConflict):
        registry.canaries.start(asked(1), published(registry).id, PLAN)


def refusal(registry: Registry, version: Version | VersionId, **changes: Any) -> str:
    route = route_of(registry)
    version_id = version.id if isinstance(version, Version) else version
    before = registry.routes.revision()
    with pytest.raises((Conflict, NotFound)) as raised:
        registry.canaries.start(asked(route.generation, **changes), version_id, PLAN)
    assert registry.routes.revision() == before
    return raised.value.reason


def test_what_may_not_be_a_canary_is_refused_with_a_code(registry: Registry) -> None:
    assert refusal(registry, published(registry)) == "no_stable_version"
    (stable,) = went_live(registry, 1)
    assert refusal(registry, stable) == "version_live"
    other = published(registry, base_fingerprint=OTHER_BASE)
    assert refusal(registry, other) == "base_mismatch"
    assert refusal(registry, published(registry, SALES)) == "not_found"
    assert refusal(registry, published(registry, SALES), principal=ADMIN) == "foreign_version"
    no = at_least("task", 0.1, 0.9, "worse than the base")
    assert refusal(registry, judged(registry, no)) == "version_rejected"
    assert refusal(registry, published(registry), principal=STRANGER) == "not_found"


def test_beside_a_canary_there_is_no_second_and_no_other_promotion(registry: Registry) -> None:
    stable, _, _ = started(registry)
    other = published(registry)
    assert refusal(registry, other) == "canary_in_progress"
    for version in (other, stable):
        with pytest.raises(Conflict) as raised:
            promote(registry, version)
        assert raised.value.reason == "canary_in_progress"


# -- moving and ending


def test_a_weight_set_by_hand_holds_at_once_and_stops_the_schedule(registry: Registry) -> None:
    _, canary, _ = started(registry)
    moved = registry.canaries.set_weight(asked(2), 20.0)
    assert (moved.action, moved.state) == (Action.WEIGHT, RolloutState.FLIPPED)
    route = route_of(registry)
    assert route.canary is not None
    assert (route.canary.weight, route.canary.version, route.generation) == (20.0, canary.id, 3)
    run, _ = registry.canaries.newest(ALIAS, SUPPORT)
    assert not run.plan.advances
    assert registry.canaries.set_weight(asked(2), 20.0) == moved
    with pytest.raises(VersionConflict):
        registry.canaries.set_weight(asked(2), 30.0)


def test_promoting_the_canary_ends_it_as_promoted(registry: Registry) -> None:
    stable, canary, _ = started(registry)
    route = carried_out(registry, promote(registry, canary, expected=2))
    assert (route.stable, route.canary) == (canary.id, None)
    assert registry.versions.by_id(stable.id).state is VersionState.RETIRED
    run, _ = registry.canaries.newest(ALIAS, SUPPORT)
    assert run.outcome is CanaryOutcome.PROMOTED
    assert carried_out(registry, roll_back(registry, 3)).stable == stable.id


def test_an_abort_takes_the_canary_out_without_a_mark(registry: Registry) -> None:
    stable, canary, _ = started(registry)
    aborted = registry.rollouts.abort(asked(2, reason="wrong hour"))
    assert (aborted.state, aborted.replaced) == (RolloutState.FLIPPED, canary.id)
    route = route_of(registry)
    assert (route.stable, route.canary) == (stable.id, None)
    found = registry.versions.by_id(canary.id)
    assert (found.state, found.rolled_back_at) == (VersionState.RETIRED, None)
    assert registry.rollouts.abort(asked(2)) == aborted
    run, _ = registry.canaries.newest(ALIAS, SUPPORT)
    assert (run.outcome, run.reason) == (CanaryOutcome.ABORTED, "wrong hour")


def test_an_abort_ends_what_is_loading(registry: Registry) -> None:
    version, process = published(registry), joined(registry)
    begun = promote(registry, version)
    aborted = registry.rollouts.abort(asked(0))
    assert (aborted.id, aborted.state, aborted.error) == (begun.id, RolloutState.FAILED, ABORTED)
    assert registry.rollouts.abort(asked(0)) == aborted
    load(registry, process, version)
    registry.rollouts.advance()
    assert route_of(registry).stable is None


def test_where_nothing_is_under_way_there_is_nothing_to_abort(registry: Registry) -> None:
    went_live(registry, 1)
    with pytest.raises(Conflict) as raised:
        registry.rollouts.abort(asked(1))
    assert raised.value.reason == "nothing_to_abort"


def test_a_rollback_while_a_canary_answers_takes_it_out_at_once_and_marks_it(
    registry: Registry,
) -> None:
    stable, canary, _ = started(registry)
    promote(registry, canary, expected=2)  # under way, and stuck
    back = registry.rollouts.roll_back(ALIAS, OWNER, unit=SUPPORT, expected_generation=2)
    assert (back.state, back.target, back.replaced) == (
        RolloutState.FLIPPED,
        stable.id,
        canary.id,
    )
    route = route_of(registry)
    assert (route.stable, route.canary, route.generation) == (stable.id, None, 3)
    assert registry.versions.by_id(stable.id).rolled_back_at is None
    assert registry.versions.by_id(canary.id).rolled_back_at is not None
    ended = registry.rollouts.history(ALIAS, SUPPORT, after=None, limit=2).items[1]
    assert (ended.state, ended.error) == (RolloutState.FAILED, CANARY_ENDED)
    assert roll_back(registry, 2) == back
    with pytest.raises(Conflict) as raised:
        roll_back(registry, 3)
    assert raised.value.reason == "nothing_to_roll_back"


def test_what_only_was_a_canary_is_no_rollbacks_target(registry: Registry) -> None:
    stable, _, _ = started(registry)
    registry.rollouts.abort(asked(2))
    later = published(registry)
    carried_out(registry, promote(registry, later, expected=3))
    assert carried_out(registry, roll_back(registry, 4)).stable == stable.id


def test_a_canary_whose_stable_version_is_withdrawn_ends(registry: Registry) -> None:
    stable, canary, _ = started(registry)
    with pytest.raises(Conflict):
        registry.versions.retire(canary.id, OWNER, aliases=ALIASES)
    registry.versions.retire(stable.id, OWNER, aliases=())
    route = route_of(registry)
    assert (route.stable, route.canary, route.generation) == (None, None, 3)
    assert registry.versions.by_id(canary.id).state is VersionState.RETIRED
    run, _ = registry.canaries.newest(ALIAS, SUPPORT)
    assert run.outcome is CanaryOutcome.ABORTED


def test_an_alias_that_moves_to_another_unit_takes_no_canary_along(registry: Registry) -> None:
    _, canary, _ = started(registry)
    theirs = published(registry, SALES)
    rollout = registry.rollouts.promote(
        ALIAS, theirs.id, STRANGER, unit=SALES, expected_generation=2
    )
    carried_out(registry, rollout)
    route = registry.routes.route(ALIAS, SALES)
    assert (route.stable, route.canary) == (theirs.id, None)
    assert registry.versions.by_id(canary.id).state is VersionState.RETIRED


def test_a_warming_loads_everywhere_and_moves_nothing(registry: Registry) -> None:
    went_live(registry, 1)
    version, process = published(registry), joined(registry)
    rollout = registry.rollouts.warm(asked(1), version.id)
    assert registry.rollouts.warm(asked(1), version.id) == rollout
    assert [r.target for r in registry.routes.changes(-1).rollouts] == [version.id]
    load(registry, process, version)
    (warmed,) = registry.rollouts.advance()
    assert warmed.state is RolloutState.COMPLETE
    assert route_of(registry).generation == 1
    assert registry.versions.by_id(version.id).state is VersionState.CANDIDATE


def test_a_warming_gives_way_to_a_promotion(registry: Registry) -> None:
    first, second = published(registry), published(registry)
    warming = registry.rollouts.warm(asked(0), first.id)
    assert promoted(registry, second).stable == second.id
    assert registry.rollouts.get(warming.id).state is RolloutState.FAILED


# -- pins


def test_a_pinned_version_is_told_to_replicas_and_may_be_let_go(registry: Registry) -> None:
    version = published(registry)
    before = registry.routes.revision()
    pinned = registry.versions.pin(version.id, OWNER, pinned=True)
    assert registry.versions.pin(version.id, OWNER, pinned=True) == pinned
    (told,) = registry.routes.changes(before).versions
    assert (told.id, told.pinned) == (version.id, True)
    assert registry.routes.revision() == before + 1
    assert registry.versions.pin(version.id, OWNER, pinned=False).pinned_at is None
    with pytest.raises(NotFound):
        registry.versions.pin(version.id, STRANGER, pinned=True)


def test_a_unit_pins_a_few_versions_and_no_more(registry: Registry) -> None:
    for _ in range(4):
        registry.versions.pin(published(registry).id, OWNER, pinned=True)
    with pytest.raises(Conflict) as raised:
        registry.versions.pin(published(registry).id, OWNER, pinned=True)
    assert raised.value.reason == "too_many_pins"
    registry.versions.pin(published(registry, SALES).id, STRANGER, pinned=True)


# -- judging


def test_counts_of_all_processes_are_one_and_repeating_them_changes_nothing(
    registry: Registry,
) -> None:
    _, _, rollout = started(registry)
    for _ in range(2):
        count(registry, rollout, canary=outcomes(5, errors=1), stable=outcomes(95))
        count(registry, rollout, number=1, canary=outcomes(10))
    _, arms = registry.canaries.newest(ALIAS, SUPPORT)
    assert (arms.canary.requests, arms.canary.errors) == (15, 1)
    assert (arms.stable.requests, sum(arms.stable.latency)) == (95, 95)


def test_what_is_counted_of_a_canary_that_has_ended_is_left_out(registry: Registry) -> None:
    _, canary, rollout = started(registry)
    registry.rollouts.abort(asked(2))
    late = Counted(rollout=rollout.id, version=canary.id, counts=outcomes(5))
    registry.canaries.report(a_process(), [late])
    _, arms = registry.canaries.newest(ALIAS, SUPPORT)
    assert arms.canary.requests == 0


def test_a_good_canary_goes_on_step_by_step_until_it_is_promoted(
    registry: Registry, clock: Clock
) -> None:
    stable, canary, rollout = started(registry)
    count(registry, rollout, canary=outcomes(10), stable=outcomes(190))
    assert look(registry, clock) == []
    count(registry, rollout, canary=outcomes(3_000), stable=outcomes(9_000))
    (moved,) = look(registry, clock)
    assert (moved.action, moved.weight, moved.actor) == (
        Action.WEIGHT,
        50.0,
        f"canary:{rollout.id}",
    )
    assert moved.reason is not None
    assert "errors: at most" in moved.reason
    assert registry.rollouts.advance() == [], "the same look twice"
    assert look(registry, clock) == [], "the new step has not been counted yet"
    count(registry, rollout, canary=outcomes(9_000), stable=outcomes(15_000))
    (last,) = look(registry, clock)
    assert (last.action, last.state) == (Action.PROMOTE, RolloutState.LOADING)
    assert carried_out(registry, last).stable == canary.id
    run, _ = registry.canaries.newest(ALIAS, SUPPORT)
    assert (run.outcome, run.step) == (CanaryOutcome.PROMOTED, 1)
    assert registry.versions.by_id(stable.id).state is VersionState.RETIRED


def test_a_bad_canary_is_rolled_back_with_the_numbers_and_no_command(
    registry: Registry, clock: Clock
) -> None:
    stable, canary, rollout = started(registry, BY_HAND)
    count(registry, rollout, canary=outcomes(10), stable=outcomes(190))
    assert look(registry, clock) == []
    count(registry, rollout, canary=outcomes(60, errors=20), stable=outcomes(950, errors=5))
    (back,) = look(registry, clock)
    assert (back.action, back.state) == (Action.ROLL_BACK, RolloutState.FLIPPED)
    assert back.reason is not None
    assert back.reason.startswith("errors: 33.3% of 60 are bad")
    assert route_of(registry).stable == stable.id
    assert registry.versions.by_id(canary.id).rolled_back_at is not None
    run, _ = registry.canaries.newest(ALIAS, SUPPORT)
    assert (run.outcome, run.reason) == (CanaryOutcome.ROLLED_BACK, back.reason)
    assert look(registry, clock) == []


def test_a_canary_that_became_unproven_is_not_promoted_by_itself(
    registry: Registry, clock: Clock
) -> None:
    went_live(registry, 1)
    yes = at_least("task", 0.9, 0.5, "better")
    canary = judged(registry, yes)
    one = replace(PLAN, steps=(Step(weight=50.0),))
    rollout = registry.canaries.start(asked(1), canary.id, one)
    carried_out(registry, rollout)
    registry.jobs.finish(canary.job_id, JobStatus.SUCCEEDED, fence=1)  # type: ignore[arg-type]
    no = at_least("task", 0.1, 0.5, "worse")
    registry.versions.judge_again(canary.id, [no], evidence={})
    count(registry, rollout, canary=outcomes(200), stable=outcomes(200))
    look(registry, clock)
    count(registry, rollout, canary=outcomes(6_000), stable=outcomes(6_000))
    assert look(registry, clock) == []
    run, _ = registry.canaries.newest(ALIAS, SUPPORT)
    assert run.told is not None
    assert "has not passed its gates" in run.told


def test_scores_from_outside_count_once_and_roll_back(registry: Registry, clock: Clock) -> None:
    stable, canary, rollout = started(registry, BY_HAND)
    count(registry, rollout, canary=outcomes(1), stable=outcomes(1))

    def score(number: int) -> None:
        values = {stable.id: 0.9, canary.id: 0.2}
        told = [
            Score(id=f"{version}-{number}-{each}", version=version, value=value)
            for version, value in values.items()
            for each in range(40)
        ]
        assert registry.canaries.add_scores(ALIAS, SUPPORT, OWNER, told) == 80
        assert registry.canaries.add_scores(ALIAS, SUPPORT, OWNER, told) == 0

    score(1)
    assert look(registry, clock) == []
    score(2)
    (back,) = look(registry, clock)
    assert back.reason is not None
    assert back.reason.startswith("score: ")


def test_a_score_of_what_is_not_compared_is_refused(registry: Registry) -> None:
    add = registry.canaries.add_scores
    with pytest.raises(Conflict) as raised:
        add(ALIAS, SUPPORT, OWNER, [])
    assert raised.value.reason == "no_canary"
    started(registry)
    other = published(registry)
    with pytest.raises(Conflict) as raised:
        add(ALIAS, SUPPORT, OWNER, [Score(id="1", version=other.id, value=1.0)])
    assert raised.value.reason == "not_compared"
    with pytest.raises(NotFound):
        add(ALIAS, SUPPORT, STRANGER, [])


# -- shadows


def test_a_shadow_is_loaded_and_answers_nobody(registry: Registry) -> None:
    (stable,) = went_live(registry, 1)
    version, process = published(registry), joined(registry)
    rollout = registry.canaries.shadow(asked(1), version.id, 10.0)
    assert registry.canaries.shadow(asked(1), version.id, 10.0) == rollout
    load(registry, process, version)
    flip_and_complete(registry, process)
    route = route_of(registry)
    assert route.shadow is not None
    assert (route.shadow.version, route.shadow.share) == (version.id, 10.0)
    assert route.answering == (stable.id,)
    assert registry.versions.by_id(version.id).state is VersionState.CANDIDATE
    with pytest.raises(Conflict):
        registry.versions.retire(version.id, OWNER, aliases=ALIASES)


def test_comparisons_add_up_until_the_shadow_ends(registry: Registry) -> None:
    went_live(registry, 1)
    version = published(registry)
    rollout = registry.canaries.shadow(asked(1), version.id, 10.0)
    carried_out(registry, rollout)
    for number in (0, 1):
        counts = Comparisons(copies=4, agreed=3, characters=80, stable_characters=100)
        told = Counted(rollout=rollout.id, version=version.id, counts=counts)
        registry.canaries.report(a_process(number=number), [told])
    found = registry.canaries.compared(rollout.id, version.id)
    assert (found.copies, found.agreed, found.characters) == (8, 6, 160)
    ended = registry.canaries.end_shadow(asked(2))
    assert registry.canaries.end_shadow(asked(2)) == ended
    assert route_of(registry).shadow is None


def test_a_shadow_that_is_promoted_is_a_shadow_no_more(registry: Registry) -> None:
    went_live(registry, 1)
    version = published(registry)
    carried_out(registry, registry.canaries.shadow(asked(1), version.id, 10.0))
    route = carried_out(registry, promote(registry, version, expected=2))
    assert (route.stable, route.shadow) == (version.id, None)


def test_what_is_no_shadow_cannot_end(registry: Registry) -> None:
    with pytest.raises(Conflict) as raised:
        registry.canaries.end_shadow(asked(0))
    assert raised.value.reason == "no_shadow"


def test_a_canary_that_somebody_has_rejected_goes_no_further_until_they_approve_it(
    registry: Registry, clock: Clock
) -> None:
    _, canary, rollout = started(registry)
    registry.approvals.decide(canary.id, Verdict.REJECTED, ADMIN, reason="promises refunds")
    count(registry, rollout, canary=outcomes(10), stable=outcomes(190))
    assert look(registry, clock) == []
    count(registry, rollout, canary=outcomes(3_000), stable=outcomes(9_000))
    assert look(registry, clock) == []
    run, _ = registry.canaries.newest(ALIAS, SUPPORT)
    assert "has rejected" in (run.told or "")
    registry.approvals.decide(canary.id, Verdict.APPROVED, ADMIN)
    (moved,) = look(registry, clock)
    assert (moved.action, moved.weight) == (Action.WEIGHT, 50.0)


def test_a_cancelled_job_begins_no_canary(registry: Registry) -> None:
    went_live(registry, 1)
    job, version = trained(registry)
    registry.versions.record_gates(version.id, [a_gate()], fence=fence_of(job), evidence={})
    by_job = asked(1, principal=Principal(id=job.id, role=Role.UNIT, unit=SUPPORT))
    begun = registry.canaries.start(by_job, version.id, PLAN)
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    assert registry.rollouts.get(begun.id).state is RolloutState.FAILED
    with pytest.raises(Conflict) as refused:
        registry.canaries.start(by_job, version.id, PLAN)
    assert refused.value.reason == "job_state"
    assert registry.canaries.start(asked(1), version.id, PLAN).state is RolloutState.LOADING
