"""What every registry does with versions: publishing, verdicts, retirement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.domain.jobs import StopRequest
from adapters.domain.names import Alias, JobId, VersionId
from adapters.domain.principals import SYSTEM
from adapters.domain.routes import RolloutState
from adapters.domain.versions import WEAKENED, Version, VersionState
from adapters.errors import Conflict, IllegalTransition, LeaseLost, NotFound
from adapters.registry import Registry
from adapters.registry.ports import NewVersion
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    ADMIN,
    ALIAS,
    ALIASES,
    LEASE_S,
    OWNER,
    SALES,
    STRANGER,
    SUPPORT,
    a_build,
    a_gate,
    claimed,
    created,
    fence_of,
    judged,
    promote,
    promoted,
    published,
    running,
    trained,
    went_live,
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


def test_a_version_comes_back_as_it_was_published(registry: Registry, clock: Clock) -> None:
    version = published(registry)
    assert (version.state, version.created_at) == (VersionState.CANDIDATE, clock.now)
    assert version.evidence == {"loss": 0.25, "steps": [1, 2]}
    assert registry.versions.get("support", 1, OWNER) == version
    assert registry.versions.by_id(version.id) == version


def test_a_foreign_or_unknown_version_is_not_found(registry: Registry) -> None:
    version = published(registry)
    for adapter, number, principal in (
        ("support", 1, STRANGER),
        ("support", 2, SYSTEM),
        ("hr", 1, SYSTEM),
    ):
        with pytest.raises(NotFound):
            registry.versions.get(adapter, number, principal)
    for version_id in (VersionId(99), VersionId(2**40), VersionId(-1)):
        with pytest.raises(NotFound):
            registry.versions.by_id(version_id)
    with pytest.raises(NotFound):
        registry.versions.retire(version.id, STRANGER, aliases=ALIASES)


def test_an_adapter_name_belongs_to_the_unit_that_used_it_first(registry: Registry) -> None:
    published(registry, SUPPORT, "triage")
    with pytest.raises(Conflict) as raised:
        published(registry, SALES, "triage")
    assert raised.value.reason == "foreign_adapter"


def test_a_job_publishes_one_version_however_often_it_tries(
    registry: Registry, clock: Clock
) -> None:
    first, version = trained(registry)
    clock.pass_by(LEASE_S)
    second = claimed(registry, owner="trainer-2")
    again = registry.versions.publish(
        a_build(digest="c" * 64), job_id=second.id, fence=fence_of(second)
    )
    assert again == version == registry.versions.of_job(first.id)
    page = registry.versions.list(SYSTEM, adapter=None, after=None, limit=9)
    assert len(page.items) == 1


def test_a_trainer_that_lost_its_lease_publishes_nothing(registry: Registry, clock: Clock) -> None:
    zombie = running(registry)
    clock.pass_by(LEASE_S)
    claimed(registry, owner="trainer-2")
    for fence in (fence_of(zombie), None):
        with pytest.raises(LeaseLost):
            registry.versions.publish(a_build(), job_id=zombie.id, fence=fence)
    assert registry.versions.of_job(zombie.id) is None
    assert registry.routes.revision() == 0


def copy_of(version: Version, digest: str = "d" * 64) -> NewVersion:
    told = {"of": version.name, "strength": 0.5, "by": "key_1"}
    return replace(a_build(digest=digest), evidence={WEAKENED: told})


def test_a_weaker_copy_of_the_same_bytes_is_published_once_whatever_else_there_is(
    registry: Registry, clock: Clock
) -> None:
    job, version = trained(registry)
    brought = registry.versions.publish(a_build(digest="d" * 64), job_id=None, fence=None)
    first = registry.versions.publish_copy(copy_of(version), job_id=job.id, fence=fence_of(job))
    clock.pass_by(LEASE_S)
    job = claimed(registry, owner="trainer-2")
    again = registry.versions.publish_copy(copy_of(version), job_id=job.id, fence=fence_of(job))
    assert again == first != brought
    assert (first.weaker_copy_of, first.job_id) == (version.name, None)
    other = registry.versions.publish_copy(
        copy_of(version, "e" * 64), job_id=job.id, fence=fence_of(job)
    )
    assert other.number == first.number + 1
    assert registry.versions.of_job(job.id) == version


def test_a_trainer_that_lost_its_lease_publishes_and_judges_no_weaker_copy(
    registry: Registry, clock: Clock
) -> None:
    zombie, version = trained(registry)
    copy = registry.versions.publish_copy(
        copy_of(version), job_id=zombie.id, fence=fence_of(zombie)
    )
    clock.pass_by(LEASE_S)
    heir = claimed(registry, owner="trainer-2")
    late = fence_of(zombie)
    with pytest.raises(LeaseLost):
        registry.versions.publish_copy(copy_of(version, "e" * 64), job_id=zombie.id, fence=late)
    with pytest.raises(LeaseLost):
        registry.versions.publish_copy(copy_of(version), job_id=zombie.id, fence=late)
    with pytest.raises(LeaseLost):
        registry.versions.record_gates(copy.id, [a_gate()], fence=late, evidence={})
    with pytest.raises(Conflict) as raised:  # by nobody else while its job runs
        registry.versions.judge_again(copy.id, [a_gate()], evidence={})
    assert raised.value.reason == "job_state"
    judged = registry.versions.record_gates(
        copy.id, [a_gate(passed=False)], fence=fence_of(heir), evidence={}
    )
    assert judged.state is VersionState.REJECTED


def test_publishing_for_an_unknown_job_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.versions.publish(a_build(), job_id=JobId("ftjob-unknown"), fence=1)


def test_versions_come_in_pages_newest_first(registry: Registry) -> None:
    mine = []
    for _ in range(5):
        mine.append(published(registry, SUPPORT, "triage"))
        published(registry, SALES)
        published(registry, SUPPORT)
    first = registry.versions.list(OWNER, adapter="triage", after=None, limit=3)
    rest = registry.versions.list(OWNER, adapter="triage", after=first.items[-1].name, limit=3)
    assert [*first.items, *rest.items] == mine[::-1]
    assert (first.has_more, rest.has_more) == (True, False)


@pytest.mark.parametrize("cursor", ["sales:1", "support:9", "support", ""])
def test_what_names_no_version_of_the_caller_is_no_cursor(registry: Registry, cursor: str) -> None:
    published(registry)
    published(registry, SALES)
    with pytest.raises(NotFound):
        registry.versions.list(OWNER, adapter=None, after=cursor, limit=3)


# -- verdicts


def test_passed_gates_keep_a_candidate_and_merge_its_evidence(registry: Registry) -> None:
    job, version = trained(registry)
    after = registry.versions.record_gates(
        version.id, [a_gate()], fence=fence_of(job), evidence={"steps": 3, "f1": 0.75}
    )
    assert after.state is VersionState.CANDIDATE
    assert after.gates == (a_gate(),)
    assert after.evidence == {"loss": 0.25, "steps": 3, "f1": 0.75}
    assert registry.versions.by_id(version.id) == after


def test_a_failed_gate_rejects_a_candidate_for_good(registry: Registry) -> None:
    version = judged(registry, a_gate(), a_gate(passed=False, gate="gain"))
    assert version.state is VersionState.REJECTED
    with pytest.raises(Conflict) as raised:
        promote(registry, version)
    assert raised.value.reason == "version_rejected"


@pytest.mark.parametrize("passed", [True, False])
def test_verdicts_are_final(registry: Registry, passed: bool) -> None:
    job, version = trained(registry)
    fence = fence_of(job)
    first = registry.versions.record_gates(
        version.id, [a_gate(passed=passed)], fence=fence, evidence={}
    )
    revision = registry.routes.revision()
    for gate in (a_gate(passed=not passed), a_gate(passed=not passed, gate="gain")):
        with pytest.raises(IllegalTransition) as raised:
            registry.versions.record_gates(version.id, [gate], fence=fence, evidence={"late": True})
        assert raised.value.reason == "already_judged"
    assert registry.versions.by_id(version.id) == first
    assert registry.routes.revision() == revision


def test_a_version_that_no_job_made_is_never_judged(registry: Registry) -> None:
    version = published(registry)
    with pytest.raises(LeaseLost):
        registry.versions.record_gates(version.id, [a_gate()], fence=1, evidence={})
    assert registry.versions.by_id(version.id) == version
    with pytest.raises(NotFound):
        registry.versions.record_gates(VersionId(99), [a_gate()], fence=1, evidence={})


def test_an_unproven_version_of_a_job_does_not_go_live(registry: Registry) -> None:
    _, version = trained(registry)
    with pytest.raises(Conflict) as raised:
        promote(registry, version)
    assert raised.value.reason == "version_unproven"
    assert str(version.job_id) in raised.value.message


# -- retirement


def test_a_retired_version_is_never_served_again(registry: Registry, clock: Clock) -> None:
    version = published(registry)
    retired = registry.versions.retire(version.id, OWNER, aliases=ALIASES)
    assert (retired.state, retired.withdrawn_at) == (VersionState.RETIRED, clock.now)
    assert not retired.servable
    assert registry.versions.by_id(version.id) == retired
    with pytest.raises(Conflict) as raised:
        promote(registry, version)
    assert raised.value.reason == "version_retired"


def test_retiring_twice_changes_nothing(registry: Registry, clock: Clock) -> None:
    version = published(registry)
    first = registry.versions.retire(version.id, OWNER, aliases=ALIASES)
    revision = registry.routes.revision()
    clock.pass_by(5.0)
    assert registry.versions.retire(version.id, OWNER, aliases=ALIASES) == first
    assert registry.routes.revision() == revision


def test_a_rejected_version_that_is_retired_stays_rejected(registry: Registry) -> None:
    version = judged(registry, a_gate(passed=False))
    retired = registry.versions.retire(version.id, OWNER, aliases=ALIASES)
    assert retired.state is VersionState.REJECTED
    assert retired.withdrawn_at is not None


def test_a_version_that_is_live_or_about_to_be_is_not_retired(registry: Registry) -> None:
    live, wanted = published(registry), published(registry)
    promoted(registry, live)
    promote(registry, wanted)
    for version in (live, wanted):
        with pytest.raises(Conflict) as raised:
            registry.versions.retire(version.id, OWNER, aliases=ALIASES)
        assert raised.value.reason == "version_live"
        assert registry.versions.by_id(version.id).servable


def test_what_no_alias_leads_to_any_more_leaves_its_routes_empty(registry: Registry) -> None:
    live, other = published(registry), published(registry)
    route = promoted(registry, live)
    rollout = promote(registry, other)
    registry.versions.retire(live.id, ADMIN, aliases=())
    emptied = registry.routes.route(ALIAS, SUPPORT)
    assert (emptied.stable, emptied.generation) == (None, route.generation + 1)
    assert registry.routes.changes(-1).routes == [emptied]
    assert registry.rollouts.get(rollout.id).state is RolloutState.FAILED
    assert promoted(registry, other).stable == other.id


def test_what_serves_another_alias_than_its_units_is_retired_and_only_that_route_emptied(
    registry: Registry,
) -> None:
    version, kept = published(registry), published(registry)
    promoted(registry, version, Alias("triage"))
    promoted(registry, kept)
    registry.versions.retire(version.id, OWNER, aliases=[ALIAS])
    assert registry.routes.route(Alias("triage"), SUPPORT).stable is None
    assert registry.routes.route(ALIAS, SUPPORT).stable == kept.id


def test_a_rollout_towards_a_version_that_is_retired_fails(registry: Registry) -> None:
    version = published(registry)
    rollout = promote(registry, version, alias=Alias("triage"))
    registry.versions.retire(version.id, ADMIN, aliases=())
    failed = registry.rollouts.get(rollout.id)
    assert (failed.state, failed.error) == (RolloutState.FAILED, "the version was retired")


def test_a_retired_version_is_no_rollbacks_target(registry: Registry) -> None:
    first, second, third = (published(registry) for _ in range(3))
    for version in (first, second, third):
        promoted(registry, version)
    registry.versions.retire(second.id, OWNER, aliases=ALIASES)
    rollout = registry.rollouts.roll_back(ALIAS, OWNER, unit=SUPPORT, expected_generation=3)
    assert rollout.target == first.id


def test_states_of_a_version_are_told_whole(registry: Registry) -> None:
    version = published(registry)
    promoted(registry, version)
    after = registry.versions.by_id(version.id)
    assert after == replace(version, state=VersionState.LIVE)


def test_where_nothing_may_need_it_a_version_is_retired_only_when_nothing_does(
    registry: Registry,
) -> None:
    old, live = went_live(registry, 2)
    pinned = registry.versions.pin(published(registry).id, OWNER, pinned=True)
    begun_with = published(registry)
    job = created(registry, model=begun_with.name)
    _, judging = trained(registry)
    for needed in (old, live, pinned, begun_with, judging):
        with pytest.raises(Conflict) as raised:
            withdrawn(registry, needed)
        assert raised.value.reason == "version_in_use", needed.name
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    assert withdrawn(registry, begun_with).withdrawn_at is not None
    assert withdrawn(registry, begun_with) == withdrawn(registry, begun_with)


def withdrawn(registry: Registry, version: Version) -> Version:
    return registry.versions.retire(version.id, OWNER, aliases=ALIASES, unneeded=True)


def test_a_job_begins_with_a_version_of_its_unit_that_may_be_served(registry: Registry) -> None:
    mine, theirs = published(registry), published(registry, SALES)
    assert created(registry, model=mine.name).model == mine.name
    for missing in (theirs.name, "support:7"):
        with pytest.raises(NotFound) as unknown:
            created(registry, model=missing)
        assert unknown.value.param == "model"
    rejected = judged(registry, a_gate(passed=False))
    retired = registry.versions.retire(published(registry).id, OWNER, aliases=ALIASES)
    for version, code in ((rejected, "version_rejected"), (retired, "version_retired")):
        with pytest.raises(Conflict) as refused:
            created(registry, model=version.name)
        assert (refused.value.reason, refused.value.param) == (code, "model")
