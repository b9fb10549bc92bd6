"""What every registry does with versions, routes and rollouts."""

from __future__ import annotations

import pytest

from adapters.domain.names import Alias, JobId, VersionId
from adapters.domain.routes import RolloutState
from adapters.domain.versions import VersionState
from adapters.errors import Conflict, IllegalTransition, LeaseLost, NotFound, VersionConflict
from adapters.registry import Registry
from tests.adapters.registry.values import (
    ALIAS,
    SALES,
    SUPPORT,
    a_build,
    a_gate,
    a_job,
    begin,
    claimed,
    fence_of,
    judged,
    promoted,
    published,
    trained,
)


def test_versions_are_numbered_per_adapter_from_one(registry: Registry) -> None:
    names = [
        published(registry, unit, adapter).name
        for unit, adapter in (
            (SUPPORT, "support"),
            (SALES, "sales"),
            (SUPPORT, "support"),
            (SUPPORT, "triage"),
        )
    ]
    assert names == ["support:1", "sales:1", "support:2", "triage:1"]


def test_a_version_comes_back_as_it_was_published(registry: Registry) -> None:
    version = published(registry)
    assert version.state is VersionState.CANDIDATE
    assert version.evidence == {"loss": 0.25, "steps": [1, 2]}
    assert registry.version("support", 1, unit=SUPPORT) == version
    assert registry.version_by_id(version.id) == version


def test_a_foreign_or_unknown_version_is_not_found(registry: Registry) -> None:
    published(registry)
    for adapter, number, unit in (("support", 1, SALES), ("support", 2, None), ("hr", 1, None)):
        with pytest.raises(NotFound):
            registry.version(adapter, number, unit=unit)
    with pytest.raises(NotFound):
        registry.version_by_id(VersionId(99))


def test_an_adapter_name_belongs_to_the_unit_that_used_it_first(registry: Registry) -> None:
    published(registry, SUPPORT, "triage")
    with pytest.raises(Conflict) as raised:
        published(registry, SALES, "triage")
    assert raised.value.reason == "foreign_adapter"


def test_a_job_publishes_one_version_however_often_it_tries(registry: Registry) -> None:
    registry.add_job(a_job())
    first = claimed(registry, now=10.0)
    version = registry.publish_version(a_build(), job_id=first.id, fence=fence_of(first), at=11.0)
    second = claimed(registry, now=100.0, owner="trainer-2")
    again = registry.publish_version(
        a_build(digest="c" * 64), job_id=second.id, fence=fence_of(second), at=101.0
    )
    assert again == version == registry.version_of_job(first.id)
    assert len(registry.versions(unit=None, adapter=None, after=None, limit=9).items) == 1


def test_a_trainer_that_lost_its_lease_publishes_nothing(registry: Registry) -> None:
    registry.add_job(a_job())
    zombie = claimed(registry, now=10.0)
    claimed(registry, now=100.0, owner="trainer-2")
    for fence in (fence_of(zombie), None):
        with pytest.raises(LeaseLost):
            registry.publish_version(a_build(), job_id=zombie.id, fence=fence, at=101.0)
    assert registry.version_of_job(zombie.id) is None
    assert registry.revision() == 0


def test_publishing_for_an_unknown_job_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.publish_version(a_build(), job_id=JobId("ftjob-unknown"), fence=1, at=1.0)


def test_versions_come_in_pages_newest_first(registry: Registry) -> None:
    mine = []
    for _ in range(5):
        mine.append(published(registry, SUPPORT, "triage"))
        published(registry, SALES)
        published(registry, SUPPORT)
    first = registry.versions(unit=SUPPORT, adapter="triage", after=None, limit=3)
    rest = registry.versions(unit=SUPPORT, adapter="triage", after=first.items[-1].name, limit=3)
    assert [*first.items, *rest.items] == mine[::-1]
    assert (first.has_more, rest.has_more) == (True, False)


@pytest.mark.parametrize("cursor", ["sales:1", "support:9", "support", ""])
def test_what_names_no_version_of_the_caller_is_no_cursor(registry: Registry, cursor: str) -> None:
    published(registry)
    published(registry, SALES)
    with pytest.raises(NotFound):
        registry.versions(unit=SUPPORT, adapter=None, after=cursor, limit=3)


def test_passed_gates_keep_a_candidate_and_merge_its_evidence(registry: Registry) -> None:
    job, version = trained(registry)
    after = registry.record_gates(
        version.id, [a_gate()], fence=fence_of(job), evidence={"steps": 3, "f1": 0.75}
    )
    assert after.state is VersionState.CANDIDATE
    assert after.gates == (a_gate(),)
    assert after.evidence == {"loss": 0.25, "steps": 3, "f1": 0.75}
    assert registry.version_by_id(version.id) == after


def test_a_failed_gate_rejects_a_candidate_for_good(registry: Registry) -> None:
    version = judged(registry, a_gate(), a_gate(passed=False, gate="gain"))
    assert version.state is VersionState.REJECTED
    with pytest.raises(Conflict) as raised:
        begin(registry, version)
    assert raised.value.reason == "version_rejected"


@pytest.mark.parametrize("passed", [True, False])
def test_verdicts_are_final(registry: Registry, passed: bool) -> None:
    job, version = trained(registry)
    fence = fence_of(job)
    first = registry.record_gates(version.id, [a_gate(passed=passed)], fence=fence, evidence={})
    revision = registry.revision()
    for gate in (a_gate(passed=not passed), a_gate(passed=not passed, gate="gain")):
        with pytest.raises(IllegalTransition) as raised:
            registry.record_gates(version.id, [gate], fence=fence, evidence={"late": True})
        assert raised.value.reason == "already_judged"
    assert registry.version_by_id(version.id) == first
    assert registry.revision() == revision


def test_a_version_that_no_job_made_is_never_judged(registry: Registry) -> None:
    version = published(registry)
    with pytest.raises(LeaseLost):
        registry.record_gates(version.id, [a_gate(passed=False)], fence=1, evidence={})
    assert registry.version_by_id(version.id) == version


def test_verdicts_on_an_unknown_version_are_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.record_gates(VersionId(99), [a_gate()], fence=1, evidence={})


def test_an_unproven_version_of_a_job_does_not_go_live(registry: Registry) -> None:
    _, version = trained(registry)
    with pytest.raises(Conflict) as raised:
        begin(registry, version)
    assert raised.value.reason == "version_unproven"
    assert str(version.job_id) in raised.value.message


def test_a_version_that_has_begun_to_go_live_is_not_rejected_any_more(registry: Registry) -> None:
    job, version = trained(registry)
    fence = fence_of(job)
    registry.record_gates(version.id, [a_gate()], fence=fence, evidence={})
    rollout = begin(registry, version)
    with pytest.raises(IllegalTransition):
        registry.record_gates(version.id, [a_gate(passed=False)], fence=fence, evidence={})
    assert registry.complete_rollout(rollout.id, at=4.0).stable == version.id


def test_an_alias_that_was_never_promoted_has_an_empty_route(registry: Registry) -> None:
    route = registry.route(ALIAS, unit=SUPPORT)
    assert (route.generation, route.stable, route.previous) == (0, None, None)


def test_another_units_alias_is_not_found(registry: Registry) -> None:
    promoted(registry, published(registry))
    with pytest.raises(NotFound):
        registry.route(ALIAS, unit=SALES)
    foreign = published(registry, SALES)
    with pytest.raises(NotFound):
        begin(registry, foreign, unit=SALES)


def test_a_promotion_moves_the_route_and_both_versions(registry: Registry) -> None:
    first, second = published(registry), published(registry)
    promoted(registry, first)
    rollout = begin(registry, second, expected=1)
    assert (rollout.state, rollout.generation, rollout.target) == ("loading", 1, second.id)
    assert registry.route(ALIAS, unit=SUPPORT).stable == first.id
    route = registry.complete_rollout(rollout.id, at=7.0)
    assert (route.stable, route.previous, route.generation) == (second.id, first.id, 2)
    assert route == registry.route(ALIAS, unit=SUPPORT)
    assert registry.version_by_id(first.id).state is VersionState.RETIRED
    assert registry.version_by_id(second.id).state is VersionState.LIVE
    assert registry.rollout(rollout.id).finished_at == 7.0
    assert registry.snapshot().rollouts == ()


def test_a_version_that_another_alias_serves_stays_live(registry: Registry) -> None:
    shared, other = published(registry), published(registry)
    promoted(registry, shared)
    promoted(registry, shared, Alias("triage"))
    promoted(registry, other)
    assert registry.version_by_id(shared.id).state is VersionState.LIVE
    promoted(registry, other, Alias("triage"))
    assert registry.version_by_id(shared.id).state is VersionState.RETIRED


def test_completing_twice_flips_once(registry: Registry) -> None:
    rollout = begin(registry, published(registry))
    first = registry.complete_rollout(rollout.id, at=7.0)
    revision = registry.revision()
    assert registry.complete_rollout(rollout.id, at=8.0) == first
    assert registry.revision() == revision


def test_a_stale_generation_changes_nothing(registry: Registry) -> None:
    first, second = published(registry), published(registry)
    promoted(registry, first)
    revision = registry.revision()
    with pytest.raises(VersionConflict):
        begin(registry, second, expected=0)
    assert registry.revision() == revision


def test_an_alias_has_one_rollout_at_a_time(registry: Registry) -> None:
    first, second = published(registry), published(registry)
    begin(registry, first)
    for version in (first, second):
        with pytest.raises(Conflict) as raised:
            begin(registry, version)
        assert raised.value.reason == "rollout_in_progress"


def test_promoting_what_serves_already_is_complete_at_once(registry: Registry) -> None:
    version = published(registry)
    promoted(registry, version)
    revision = registry.revision()
    rollout = begin(registry, version)
    assert (rollout.id, rollout.state) == (0, RolloutState.COMPLETE)
    assert registry.revision() == revision


def test_a_route_serves_versions_of_its_own_unit_only(registry: Registry) -> None:
    with pytest.raises(Conflict) as raised:
        begin(registry, published(registry, SALES))
    assert raised.value.reason == "foreign_version"


def test_a_failed_rollout_leaves_the_route_and_makes_room_for_the_next(registry: Registry) -> None:
    first, second = published(registry), published(registry)
    route = promoted(registry, first)
    rollout = begin(registry, second)
    registry.fail_rollout(rollout.id, "the engine refused it", at=6.0)
    registry.fail_rollout(rollout.id, "again", at=7.0)
    failed = registry.rollout(rollout.id)
    assert (failed.state, failed.error) == (RolloutState.FAILED, "the engine refused it")
    assert registry.route(ALIAS, unit=SUPPORT) == route
    assert registry.version_by_id(second.id).state is VersionState.CANDIDATE
    with pytest.raises(IllegalTransition):
        registry.complete_rollout(rollout.id, at=8.0)
    assert promoted(registry, second).stable == second.id


def test_a_complete_rollout_cannot_fail_any_more(registry: Registry) -> None:
    rollout = begin(registry, published(registry))
    registry.complete_rollout(rollout.id, at=4.0)
    with pytest.raises(IllegalTransition):
        registry.fail_rollout(rollout.id, "late", at=5.0)


def test_rolling_back_and_forth_keeps_one_version_live(registry: Registry) -> None:
    first, second = published(registry), published(registry)
    promoted(registry, first)
    promoted(registry, second)
    route = promoted(registry, first)
    assert (route.stable, route.previous, route.generation) == (first.id, second.id, 3)
    states = [registry.version_by_id(version.id).state for version in (first, second)]
    assert states == [VersionState.LIVE, VersionState.RETIRED]


def test_an_aliass_history_comes_in_pages_newest_first(registry: Registry) -> None:
    first, second = published(registry), published(registry)
    for version in (first, second, first):
        promoted(registry, version)
    promoted(registry, first, Alias("triage"))
    page = registry.rollouts(alias=ALIAS, after=None, limit=2)
    rest = registry.rollouts(alias=ALIAS, after=str(page.items[-1].id), limit=2)
    targets = [rollout.target for rollout in (*page.items, *rest.items)]
    assert targets == [first.id, second.id, first.id]
    assert (page.has_more, rest.has_more) == (True, False)
    with pytest.raises(NotFound):
        registry.rollouts(alias=ALIAS, after="x", limit=2)


def test_an_unknown_rollout_is_not_found(registry: Registry) -> None:
    for ask in (registry.rollout, lambda number: registry.complete_rollout(number, at=1.0)):
        with pytest.raises(NotFound):
            ask(99)
    with pytest.raises(NotFound):
        registry.fail_rollout(99, "x", at=1.0)
