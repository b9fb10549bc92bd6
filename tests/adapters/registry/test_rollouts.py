"""What every registry does with routes: promotions, and how rollouts move."""

from __future__ import annotations

import pytest

from adapters.domain.names import Alias, VersionId
from adapters.domain.routes import Rollout, RolloutState
from adapters.domain.versions import VersionState
from adapters.errors import Conflict, InvalidRequest, NotFound, VersionConflict
from adapters.registry import Registry
from adapters.registry.ports import ProcessId, Registration
from adapters.registry.transitions.rollouts import BASE_NOT_SERVED, BASE_PATIENCE_SECONDS
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    ADMIN,
    ALIAS,
    BASE,
    OTHER_BASE,
    OWNER,
    SALES,
    STRANGER,
    SUPPORT,
    a_process,
    acknowledge,
    beat,
    carried_out,
    joined,
    load,
    observe,
    promote,
    promoted,
    published,
)

SILENCE = 10.1
"""Seconds: five missed heartbeats and a little."""


def state_of(registry: Registry, rollout: Rollout) -> RolloutState:
    return registry.rollouts.get(rollout.id).state


def flipped(registry: Registry, rollout: Rollout) -> Rollout:
    (moved,) = registry.rollouts.advance()
    assert (moved.id, moved.state) == (rollout.id, RolloutState.FLIPPED)
    return moved


def flipped_in_silence(registry: Registry, clock: Clock, alive: ProcessId) -> Rollout:
    """A rollout whose flip `alive` has observed, while every other replica had gone silent."""
    version = published(registry)
    rollout = promote(registry, version)
    clock.pass_by(SILENCE)
    beat(registry, alive)
    load(registry, alive, version)
    flipped(registry, rollout)
    observe(registry, alive)
    return rollout


def completed(registry: Registry, rollout: Rollout) -> None:
    registry.rollouts.advance()
    assert state_of(registry, rollout) is RolloutState.COMPLETE


# -- promotions


def test_a_promotion_for_which_an_engine_has_no_slot_is_refused_and_begins_nothing(
    registry: Registry,
) -> None:
    for alias in ("one", "two"):
        promoted(registry, published(registry), alias=Alias(alias))
    small = a_process("small")
    limits = {"max_cpu_loras": 2, "max_loras": 2, "max_lora_rank": 32}
    registry.replicas.register(Registration(process=small, base_fingerprint=BASE, limits=limits))
    beat(registry, small)
    third, broken = published(registry), registry.routes.route(Alias("two"), SUPPORT).stable
    with pytest.raises(Conflict, match="finds no slot in small") as refused:
        promote(registry, third)
    assert refused.value.reason == "no_slot"
    assert registry.routes.changes(-1).rollouts == []
    assert broken is not None
    acknowledge(registry, small, broken, error="artifact_damaged")
    assert promote(registry, third, alias=Alias("two")).state is RolloutState.LOADING


def test_an_engine_of_another_base_or_a_silent_one_has_no_say_in_slots(
    registry: Registry, clock: Clock
) -> None:
    limits = {"max_cpu_loras": 0, "max_loras": 2, "max_lora_rank": 1}
    for name, base in (("other", OTHER_BASE), ("silent", BASE)):
        process = a_process(name)
        registry.replicas.register(
            Registration(process=process, base_fingerprint=base, limits=limits)
        )
        beat(registry, process)
        if name == "other":
            continue
        with pytest.raises(Conflict, match="rank"):
            promote(registry, published(registry))
    clock.pass_by(SILENCE)
    assert promote(registry, published(registry)).state is RolloutState.LOADING


def test_an_alias_that_was_never_promoted_has_an_empty_route(registry: Registry) -> None:
    route = registry.routes.route(ALIAS, SUPPORT)
    assert (route.generation, route.stable, route.since) == (0, None, 0)


def test_a_promotion_moves_the_route_and_both_versions(registry: Registry, clock: Clock) -> None:
    first, second = published(registry), published(registry)
    promoted(registry, first)
    rollout = promote(registry, second, expected=1)
    assert (rollout.state, rollout.generation) == (RolloutState.LOADING, 1)
    assert (rollout.target, rollout.replaced, rollout.actor) == (second.id, first.id, ADMIN.id)
    assert registry.routes.route(ALIAS, SUPPORT).stable == first.id
    clock.pass_by(1.0)
    route = carried_out(registry, rollout)
    assert (route.stable, route.generation, route.updated_at) == (second.id, 2, clock.now)
    assert registry.versions.by_id(first.id).state is VersionState.RETIRED
    assert registry.versions.by_id(second.id).state is VersionState.LIVE
    ended = registry.rollouts.get(rollout.id)
    assert ended.flipped_at == ended.finished_at == clock.now
    assert registry.routes.changes(-1).rollouts == []


def test_a_version_that_another_alias_serves_stays_live(registry: Registry) -> None:
    shared, other = published(registry), published(registry)
    promoted(registry, shared)
    promoted(registry, shared, Alias("triage"))
    promoted(registry, other)
    assert registry.versions.by_id(shared.id).state is VersionState.LIVE
    promoted(registry, other, Alias("triage"))
    assert registry.versions.by_id(shared.id).state is VersionState.RETIRED


def test_a_stale_generation_changes_nothing(registry: Registry) -> None:
    first, second = published(registry), published(registry)
    promoted(registry, first)
    revision = registry.routes.revision()
    with pytest.raises(VersionConflict):
        promote(registry, second, expected=0)
    assert registry.routes.revision() == revision


def test_an_alias_has_one_rollout_loading_at_a_time(registry: Registry) -> None:
    first, second = published(registry), published(registry)
    promote(registry, first)
    for version in (first, second):
        with pytest.raises(Conflict) as raised:
            promote(registry, version)
        assert raised.value.reason == "rollout_in_progress"


def test_repeating_a_promotion_that_names_its_generation_gives_its_rollout(
    registry: Registry,
) -> None:
    first, second = published(registry), published(registry)
    begun = promote(registry, first, expected=0)
    revision = registry.routes.revision()
    assert promote(registry, first, expected=0) == begun
    assert registry.routes.revision() == revision
    carried_out(registry, begun)
    assert promote(registry, first, expected=0) == registry.rollouts.get(begun.id)
    promoted(registry, second)
    assert promote(registry, first, expected=0) == registry.rollouts.get(begun.id)
    with pytest.raises(VersionConflict):
        promote(registry, second, expected=0)


def test_a_promotion_that_failed_may_be_tried_again(registry: Registry) -> None:
    version, process = published(registry), joined(registry)
    begun = promote(registry, version, expected=0)
    acknowledge(registry, process, version, error="no room")
    registry.rollouts.advance()
    again = promote(registry, version, expected=0)
    assert again.id != begun.id
    assert carried_out(registry, again).stable == version.id


def test_promoting_what_serves_already_answers_with_its_rollout(registry: Registry) -> None:
    version = published(registry)
    promoted(registry, version)
    revision = registry.routes.revision()
    rollout = promote(registry, version)
    assert (rollout.target, rollout.state) == (version.id, RolloutState.COMPLETE)
    assert promote(registry, version, expected=1) == rollout
    assert registry.routes.revision() == revision


def test_a_route_serves_versions_of_its_own_unit_only(registry: Registry) -> None:
    foreign = published(registry, SALES)
    with pytest.raises(Conflict) as raised:
        promote(registry, foreign)
    assert raised.value.reason == "foreign_version"
    with pytest.raises(NotFound):
        promote(registry, foreign, by=OWNER)
    with pytest.raises(NotFound):
        promote(registry, published(registry), by=STRANGER)
    with pytest.raises(NotFound):
        registry.rollouts.promote(
            ALIAS, VersionId(99), ADMIN, unit=SUPPORT, expected_generation=None
        )


# -- how a rollout moves


def test_nothing_moves_while_nobody_reports(registry: Registry) -> None:
    rollout = promote(registry, published(registry))
    assert registry.rollouts.advance() == []
    assert registry.rollouts.waits_for(rollout.id) == []


def test_a_route_flips_once_every_reporting_replica_has_the_target(registry: Registry) -> None:
    one, two = joined(registry), joined(registry, a_process("replica-2"))
    version = published(registry)
    rollout = promote(registry, version)
    load(registry, one, version)
    assert registry.rollouts.advance() == []
    assert registry.rollouts.waits_for(rollout.id) == ["replica-2"]
    load(registry, two, version)
    assert flipped(registry, rollout).flip_revision == registry.routes.revision()
    assert registry.routes.route(ALIAS, SUPPORT).stable == version.id
    assert registry.rollouts.waits_for(rollout.id) == ["replica-1", "replica-2"]


def test_a_silent_replica_holds_up_complete_and_not_the_flip(
    registry: Registry, clock: Clock
) -> None:
    dead, alive = joined(registry), joined(registry, a_process("replica-2"))
    rollout = flipped_in_silence(registry, clock, alive)
    assert registry.rollouts.advance() == []
    assert registry.rollouts.waits_for(rollout.id) == ["replica-1"]
    clock.pass_by(1e6)
    assert registry.rollouts.advance() == []
    observe(registry, dead)
    (complete,) = registry.rollouts.advance()
    assert complete.state is RolloutState.COMPLETE
    assert registry.rollouts.waits_for(rollout.id) == []


@pytest.mark.parametrize("how", ["leave", "retire", "restart"])
def test_a_silent_replica_that_is_gone_holds_up_nothing(
    registry: Registry, clock: Clock, how: str
) -> None:
    dead, alive = joined(registry), joined(registry, a_process("replica-2"))
    rollout = flipped_in_silence(registry, clock, alive)
    assert registry.rollouts.advance() == []
    if how == "leave":
        registry.replicas.leave(dead)
    elif how == "retire":
        registry.replicas.retire(dead.replica, by=ADMIN)
    else:
        joined(registry, a_process(incarnation="two"), observed=False)
    completed(registry, rollout)


def test_a_replica_that_stops_is_waited_for_until_its_lease_has_surely_ended(
    registry: Registry, clock: Clock
) -> None:
    stops, alive = a_process(), joined(registry, a_process("replica-2"))
    joined(registry, stops, on_loss="stop")
    beat(registry, stops, lease_seconds=15.0)
    rollout = flipped_in_silence(registry, clock, alive)
    clock.pass_by(16.9 - SILENCE)
    assert registry.rollouts.advance() == []
    assert registry.rollouts.waits_for(rollout.id) == ["replica-1"]
    clock.pass_by(0.2)
    completed(registry, rollout)


def test_a_process_that_has_observed_nothing_holds_up_nothing(registry: Registry) -> None:
    process = joined(registry)
    version = published(registry)
    load(registry, process, version)
    rollout = promote(registry, version)
    flipped(registry, rollout)
    joined(registry, a_process(number=1), observed=False)
    observe(registry, process)
    completed(registry, rollout)


def test_every_process_of_a_replica_must_have_observed(registry: Registry) -> None:
    one, two = joined(registry), joined(registry, a_process(number=1))
    version = published(registry)
    load(registry, one, version)
    rollout = promote(registry, version)
    flipped(registry, rollout)
    observe(registry, one)
    assert registry.rollouts.advance() == []
    observe(registry, two)
    completed(registry, rollout)


def test_a_replica_that_cannot_load_fails_the_rollout_and_changes_nothing(
    registry: Registry, clock: Clock
) -> None:
    first, second = published(registry), published(registry)
    route = promoted(registry, first)
    rollout = promote(registry, second)
    acknowledge(registry, a_process(), second, error="the engine refused it")
    clock.pass_by(1.0)
    (failed,) = registry.rollouts.advance()
    assert failed == registry.rollouts.get(rollout.id)
    assert (failed.state, failed.error) == (RolloutState.FAILED, "the engine refused it")
    assert failed.finished_at == clock.now
    assert registry.routes.route(ALIAS, SUPPORT) == route
    assert registry.versions.by_id(second.id).state is VersionState.CANDIDATE


def test_a_replica_that_loads_at_the_second_try_fails_nothing(registry: Registry) -> None:
    version, process = published(registry), joined(registry)
    rollout = promote(registry, version)
    acknowledge(registry, process, version, error="no room")
    load(registry, process, version)
    flipped(registry, rollout)


@pytest.mark.parametrize("told", ["nothing", "an error"])
def test_a_replica_of_another_base_neither_fails_nor_delays(registry: Registry, told: str) -> None:
    other = joined(registry, a_process("replica-0"), base=OTHER_BASE)
    version, process = published(registry), joined(registry)
    rollout = promote(registry, version)
    if told == "an error":
        acknowledge(registry, other, version, error="another base")
    load(registry, process, version)
    flipped(registry, rollout)
    observe(registry, process)
    completed(registry, rollout)


def test_a_replica_that_served_what_is_replaced_must_have_observed_whatever_its_base(
    registry: Registry,
) -> None:
    old, new = joined(registry), joined(registry, a_process("replica-2"), base=OTHER_BASE)
    promoted(registry, published(registry))
    version = published(registry, base_fingerprint=OTHER_BASE)
    rollout = promote(registry, version)
    load(registry, new, version)
    flipped(registry, rollout)
    observe(registry, new)
    assert registry.rollouts.advance() == []
    observe(registry, old)
    completed(registry, rollout)


def test_a_rollout_that_no_replica_can_ever_load_does_not_block_its_alias(
    registry: Registry, clock: Clock
) -> None:
    process = joined(registry, base=OTHER_BASE)
    rollout = promote(registry, published(registry))
    assert registry.rollouts.advance() == []
    clock.pass_by(BASE_PATIENCE_SECONDS + 1.0)
    assert registry.rollouts.advance() == []  # nobody reports: they may come back
    beat(registry, process)
    (failed,) = registry.rollouts.advance()
    assert (failed.id, failed.error) == (rollout.id, BASE_NOT_SERVED)


def test_a_flipped_rollout_makes_room_for_the_next_and_both_complete_in_time(
    registry: Registry,
) -> None:
    first, second, process = published(registry), published(registry), joined(registry)
    load(registry, process, first, second)
    one = promote(registry, first)
    flipped(registry, one)
    two = promote(registry, second)
    flipped(registry, two)
    assert state_of(registry, one) is RolloutState.FLIPPED
    observe(registry, process)
    registry.rollouts.advance()
    assert {state_of(registry, rollout) for rollout in (one, two)} == {RolloutState.COMPLETE}


def test_an_unknown_rollout_is_not_found(registry: Registry) -> None:
    for number in (99, 0, -1, 2**40):
        with pytest.raises(NotFound):
            registry.rollouts.get(number)
        with pytest.raises(NotFound):
            registry.rollouts.waits_for(number)


def test_a_failure_from_before_a_rollout_is_no_answer_to_it(registry: Registry) -> None:
    process = joined(registry)
    version = published(registry)
    failed = promote(registry, version)
    acknowledge(registry, process, version, error="the store does not answer")
    registry.rollouts.advance()
    assert state_of(registry, failed) is RolloutState.FAILED
    again = promote(registry, version)
    assert registry.rollouts.advance() == []
    assert registry.rollouts.waits_for(again.id) == [process.replica]
    acknowledge(registry, process, version, error="the store does not answer")
    registry.rollouts.advance()
    assert state_of(registry, again) is RolloutState.FAILED


def test_a_generation_that_the_database_cannot_hold_is_the_callers_mistake(
    registry: Registry,
) -> None:
    version = published(registry)
    promoted(registry, version)
    for expected in (2**63, 10**30):
        with pytest.raises((InvalidRequest, Conflict)):
            promote(registry, version, expected=expected)
