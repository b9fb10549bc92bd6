"""What every registry collects, and what it never does."""

from __future__ import annotations

import pytest

from adapters.domain.jobs import JobStatus, StopRequest
from adapters.domain.names import Alias, Digest
from adapters.domain.principals import SYSTEM
from adapters.domain.routes import RolloutState
from adapters.domain.versions import WEAKENED, Version
from adapters.errors import Conflict, Unavailable
from adapters.registry import Registry
from adapters.registry.ports import Retention
from adapters.registry.sql.condemned import CONDEMNED_SECONDS
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    ADMIN,
    ALIAS,
    ALIASES,
    OWNER,
    SALES,
    SUPPORT,
    a_build,
    a_file,
    a_gate,
    a_key,
    a_process,
    acknowledge,
    added_file,
    beat,
    carried_out,
    claimed,
    created,
    fence_of,
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

DAY = 86_400.0


def collect(registry: Registry, **changes: float) -> dict[str, int]:
    """What was collected; doing it again at once finds nothing."""
    retention = Retention(**changes)  # type: ignore[arg-type]
    counts = registry.collection.collect(retention)
    assert not any(registry.collection.collect(retention).values())
    return {kind: count for kind, count in counts.items() if count}


def is_collected(registry: Registry, version: Version) -> bool:
    return registry.versions.by_id(version.id).collected_at is not None


def test_a_young_registry_has_nothing_to_collect(registry: Registry) -> None:
    went_live(registry, 3)
    judged(registry, a_gate(passed=False))
    revision = registry.routes.revision()
    assert collect(registry) == {}
    assert registry.routes.revision() == revision


def test_retired_versions_beyond_the_newest_are_collected(registry: Registry, clock: Clock) -> None:
    versions = went_live(registry, 5)
    before = registry.routes.revision()
    assert collect(registry, retired_versions=2) == {"versions": 2}
    assert [is_collected(registry, version) for version in versions] == [True, True, *[False] * 3]
    told = registry.routes.changes(before).versions
    assert [(version.id, version.servable) for version in told] == [
        (version.id, False) for version in versions[:2]
    ]
    gone = registry.versions.by_id(versions[0].id)
    assert (gone.collected_at, gone.evidence) == (clock.now, versions[0].evidence)
    with pytest.raises(Conflict) as raised:
        promote(registry, versions[0])
    assert raised.value.reason == "version_retired"


@pytest.mark.parametrize(
    ("kind", "days"), [("rejected", 30.0), ("candidate", 90.0), ("withdrawn", 0.0)]
)
def test_versions_that_were_never_live_are_collected_by_their_age(
    registry: Registry, clock: Clock, kind: str, days: float
) -> None:
    version = judged(registry, a_gate(passed=False)) if kind == "rejected" else published(registry)
    if kind == "withdrawn":
        registry.versions.retire(version.id, OWNER, aliases=ALIASES)
    if days:
        clock.pass_by(days * DAY - 1.0)
        collect(registry)
        assert not is_collected(registry, version)
    clock.pass_by(1.0)
    if kind == "rejected":  # its job is long over
        job = claimed(registry, owner="late")
        registry.jobs.request_stop(job.id, StopRequest.CANCEL, SYSTEM)
        registry.jobs.finish(job.id, JobStatus.CANCELLED, fence=fence_of(job))
    collect(registry)
    assert is_collected(registry, version)


def test_what_a_route_a_rollout_a_rollback_or_a_job_could_name_is_never_collected(
    registry: Registry, clock: Clock
) -> None:
    before, live = went_live(registry, 2)
    wanted = published(registry)
    _, judging = trained(registry)
    clock.pass_by(1000 * DAY)
    promote(registry, wanted, alias=Alias("triage"))
    collect(registry, retired_versions=0)
    assert not any(is_collected(registry, v) for v in (before, live, wanted, judging))
    assert carried_out(registry, roll_back(registry, 2)).stable == before.id


def test_what_a_weaker_copy_was_made_of_stays_as_long_as_the_copy(
    registry: Registry, clock: Clock
) -> None:
    original = judged(registry, a_gate(passed=False))
    copy = published(registry, evidence={WEAKENED: {"of": original.name, "by": OWNER.id}})
    registry.versions.pin(copy.id, OWNER, pinned=True)
    clock.pass_by(1000 * DAY)
    job = claimed(registry, owner="late")  # the original's is long over
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, SYSTEM)
    registry.jobs.finish(job.id, JobStatus.CANCELLED, fence=fence_of(job))
    collect(registry)
    assert not is_collected(registry, original)
    registry.versions.pin(copy.id, OWNER, pinned=False)
    registry.versions.retire(copy.id, OWNER, aliases=ALIASES)
    registry.collection.collect(Retention())
    registry.collection.collect(Retention())
    assert is_collected(registry, original)


def test_a_weaker_copy_is_neither_collected_nor_deleted_while_its_job_may_put_it_live(
    registry: Registry, clock: Clock
) -> None:
    job, original = trained(registry)
    fence = fence_of(job)
    evidence = {WEAKENED: {"of": original.name}}
    made = (a_build(evidence=evidence, digest=Digest(each * 64)) for each in "de")
    held_up, passed = (
        registry.versions.publish_copy(new, job_id=job.id, fence=fence) for new in made
    )
    registry.versions.record_gates(held_up.id, [a_gate(passed=False)], fence=fence, evidence={})
    registry.versions.record_gates(passed.id, [a_gate()], fence=fence, evidence={})
    assert collect(registry, candidate_days=0, rejected_days=0) == {}
    with pytest.raises(Conflict) as raised:
        registry.versions.retire(passed.id, OWNER, aliases=ALIASES, unneeded=True)
    assert raised.value.reason == "version_in_use"
    assert promoted(registry, passed).stable == passed.id
    registry.jobs.finish(job.id, JobStatus.SUCCEEDED, fence=fence)
    collect(registry, candidate_days=0, rejected_days=0)
    assert is_collected(registry, held_up)
    assert not is_collected(registry, passed)


def test_a_version_that_was_rolled_back_from_is_collected_like_any_retired_one(
    registry: Registry,
) -> None:
    good, bad = went_live(registry, 2)
    carried_out(registry, roll_back(registry, 2))
    collect(registry, retired_versions=0)
    assert is_collected(registry, bad)
    assert not is_collected(registry, good)


def test_what_finished_jobs_told_goes_after_its_time(registry: Registry, clock: Clock) -> None:
    finished, running = created(registry), created(registry)
    for job in (finished, running):
        registry.jobs.say(job.id, "x")
    registry.jobs.request_stop(finished.id, StopRequest.CANCEL, OWNER)
    clock.pass_by(89 * DAY)
    assert collect(registry) == {}
    clock.pass_by(DAY)
    assert collect(registry) == {"events": 1}
    assert registry.jobs.events(finished.id, OWNER, after=None, limit=9).items == []
    assert len(registry.jobs.events(running.id, OWNER, after=None, limit=9).items) == 1


def test_a_revoked_key_never_comes_back_to_life(registry: Registry, clock: Clock) -> None:
    """A key brought in a Secret is brought again at every start."""
    registry.keys.add([a_key()])
    registry.keys.revoke("key_1", by=ADMIN)
    clock.pass_by(1000 * DAY)
    collect(registry)
    with pytest.raises(Conflict):
        registry.keys.add([a_key()])


def test_old_rollouts_go_except_what_a_rollback_looks_for(registry: Registry, clock: Clock) -> None:
    first, second = published(registry), published(registry)
    for version in (first, second, first, second):
        promoted(registry, version)
    failed = promote(registry, first)
    acknowledge(registry, a_process(), first, error="torn")
    registry.rollouts.advance()
    clock.pass_by(90 * DAY)
    assert collect(registry) == {"rollouts": 3}
    left = registry.rollouts.history(ALIAS, SUPPORT, after=None, limit=9).items
    assert [rollout.target for rollout in left] == [second.id, first.id]
    assert failed.id not in [rollout.id for rollout in left]
    newest = promote(registry, second)
    assert (newest.target, newest.state) == (second.id, RolloutState.COMPLETE)
    load(registry, joined(registry), first)
    assert carried_out(registry, roll_back(registry, 4)).stable == first.id


def test_silent_replicas_go_only_if_they_have_surely_stopped(
    registry: Registry, clock: Clock
) -> None:
    joined(registry, a_process("keeps"))
    joined(registry, a_process("stops"), on_loss="stop")
    leased = joined(registry, a_process("leased"), on_loss="stop")
    beat(registry, leased, lease_seconds=30 * DAY)
    clock.pass_by(7 * DAY - 1.0)
    assert collect(registry) == {}
    clock.pass_by(61.0)
    assert collect(registry) == {"replicas": 1}
    assert [replica.id for replica in registry.replicas.list()] == ["keeps", "leased"]


def test_what_is_left_of_deleted_files_goes_too(registry: Registry, clock: Clock) -> None:
    file = added_file(registry)
    registry.files.delete(file.id, OWNER)
    clock.pass_by(90 * DAY)
    assert collect(registry) == {"files": 1}


# -- bytes


def test_roots_are_what_versions_files_and_engines_need(registry: Registry, clock: Clock) -> None:
    kept, gone = (published(registry, digest=Digest(c * 64)) for c in "12")
    file = added_file(registry, digest=Digest("3" * 64))
    process = joined(registry)
    load(registry, process, gone)
    registry.versions.retire(gone.id, OWNER, aliases=ALIASES)
    collect(registry)
    assert registry.collection.roots() == {kept.digest, gone.digest, file.digest}
    registry.replicas.unloaded(process.replica, process.incarnation, [gone.id])
    assert registry.collection.roots() == {kept.digest, file.digest}


def test_a_root_is_not_condemned(registry: Registry) -> None:
    file, orphan = added_file(registry), Digest("9" * 64)
    assert registry.collection.condemn({file.digest, orphan}) == {orphan}
    assert registry.collection.condemn({orphan}) == set(), "two collectors would delete it"


def test_who_adds_condemned_bytes_waits_until_they_are_gone(registry: Registry) -> None:
    digest = Digest("9" * 64)
    registry.collection.condemn({digest})
    for _ in range(2):
        with pytest.raises(Unavailable) as raised:
            added_file(registry, digest=digest)
        assert raised.value.reason == "artifact_condemned"
        with pytest.raises(Unavailable):
            published(registry, digest=digest)
    registry.collection.clear({digest})
    assert added_file(registry, digest=digest).digest == digest
    assert registry.collection.condemn({digest}) == set()


def test_a_collector_that_died_keeps_nobody_waiting_for_ever(
    registry: Registry, clock: Clock
) -> None:
    digest = Digest("9" * 64)
    registry.collection.condemn({digest})
    clock.pass_by(CONDEMNED_SECONDS)
    assert registry.versions.publish(a_build(digest=digest), job_id=None, fence=None)


def test_what_a_killed_collector_condemned_is_taken_over_after_an_hour(
    registry: Registry, clock: Clock
) -> None:
    first, second = Digest("1" * 64), Digest("2" * 64)
    registry.collection.condemn({first, second})
    registry.collection.clear_abandoned(keep=set())
    assert registry.collection.condemn({first, second}) == set()
    clock.pass_by(CONDEMNED_SECONDS)
    registry.collection.clear_abandoned(keep={first})
    assert registry.collection.condemn({first, second}) == {first, second}


def test_however_much_is_kept_marks_are_taken_away(registry: Registry, clock: Clock) -> None:
    """More than a statement has parameters."""
    kept, gone = Digest("1" * 64), Digest("2" * 64)
    registry.collection.condemn({kept, gone})
    clock.pass_by(CONDEMNED_SECONDS - 1.0)
    fresh = Digest("3" * 64)
    registry.collection.condemn({fresh})
    clock.pass_by(1.0)
    registry.collection.clear_abandoned(keep={kept, *(Digest(f"{n:064x}") for n in range(70_000))})
    assert added_file(registry, digest=gone).digest == gone
    assert registry.collection.condemn({kept, fresh}) == {kept}


def test_nothing_condemned_is_nothing_to_do(registry: Registry) -> None:
    assert registry.collection.condemn(set()) == set()
    registry.collection.clear(set())
    assert registry.files.add(a_file(SALES), by=SYSTEM).unit == SALES
