"""What every registry does: revision, snapshot, keys, replicas, files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.domain.files import StoredFile
from adapters.domain.jobs import JobStatus
from adapters.domain.names import FileId, VersionId
from adapters.domain.principals import Role
from adapters.errors import Conflict, NotFound
from adapters.registry import Registry, ReplicaReport
from tests.adapters.registry.values import (
    ALIAS,
    BASE,
    SALES,
    SUPPORT,
    a_file,
    a_gate,
    a_job,
    a_key,
    begin,
    fence_of,
    judged,
    promoted,
    published,
    trained,
)


def a_report(replica: str = "replica-1", at: float = 5.0) -> ReplicaReport:
    return ReplicaReport(
        id=replica,
        at=at,
        revision=3,
        loaded=frozenset({VersionId(2), VersionId(7)}),
        ready=True,
        base_fingerprint=BASE,
        limits={"max_lora_rank": 32},
    )


def test_an_empty_registry_has_an_empty_snapshot(registry: Registry) -> None:
    snapshot = registry.snapshot()
    assert snapshot.revision == registry.revision() == 0
    assert (snapshot.routes, snapshot.rollouts, snapshot.versions, snapshot.keys) == (
        {},
        (),
        {},
        (),
    )


def test_the_snapshot_shows_routes_rollouts_versions_and_keys(registry: Registry) -> None:
    registry.add_keys([a_key()])
    first, second = published(registry), published(registry)
    route = promoted(registry, first)
    rollout = begin(registry, second, expected=1)
    snapshot = registry.snapshot()
    assert snapshot.routes == {ALIAS: route}
    assert snapshot.rollouts == (rollout,)
    assert snapshot.versions == {
        first.id: registry.version_by_id(first.id),
        second.id: registry.version_by_id(second.id),
    }
    assert snapshot.keys == (a_key(),)
    assert snapshot.revision == registry.revision()


def test_a_rejected_version_is_not_in_the_snapshot(registry: Registry) -> None:
    judged(registry, a_gate(passed=False))
    assert registry.snapshot().versions == {}


def test_every_change_that_a_snapshot_shows_raises_the_revision(registry: Registry) -> None:
    seen = [registry.revision()]

    def grew() -> bool:
        seen.append(registry.revision())
        return seen[-1] > seen[-2]

    registry.add_keys([a_key()])
    assert grew()
    registry.revoke_key("key_1", at=2.0)
    assert grew()
    job, version = trained(registry)
    assert grew()
    registry.record_gates(version.id, [a_gate()], fence=fence_of(job), evidence={})
    assert grew()
    rollout = begin(registry, version, expected=0)
    assert grew()
    registry.fail_rollout(rollout.id, "no room", at=4.0)
    assert grew()
    promoted(registry, version)
    assert grew()


def test_what_no_snapshot_shows_leaves_the_revision_alone(registry: Registry) -> None:
    registry.add_keys([])
    registry.report_replica(a_report())
    registry.forget_replica("replica-1")
    registry.add_file(a_file())
    registry.add_job(a_job())
    registry.claim_job(owner="t", now=1.0, lease_seconds=9.0)
    assert registry.revision() == 0


def test_a_replica_replaces_its_own_report(registry: Registry) -> None:
    registry.report_replica(a_report(at=5.0))
    registry.report_replica(a_report(at=6.0))
    registry.report_replica(a_report("replica-0", at=4.0))
    assert registry.replicas(newer_than=0.0) == [a_report("replica-0", 4.0), a_report(at=6.0)]
    assert registry.replicas(newer_than=4.0) == [a_report(at=6.0)]
    assert registry.replicas(newer_than=6.0) == []


def test_a_forgotten_replica_is_gone_and_an_unknown_one_is_fine(registry: Registry) -> None:
    registry.report_replica(a_report())
    registry.forget_replica("replica-1")
    registry.forget_replica("replica-1")
    assert registry.replicas(newer_than=0.0) == []


def test_keys_come_back_oldest_first_until_they_are_revoked(registry: Registry) -> None:
    admin = a_key("key_2", role=Role.ADMIN, unit=None)
    registry.add_keys([a_key("key_9"), admin])
    assert registry.keys() == [a_key("key_9"), admin]
    registry.revoke_key("key_9", at=5.0)
    assert registry.keys() == [admin]


def test_revoking_again_changes_nothing_and_an_unknown_key_is_not_found(
    registry: Registry,
) -> None:
    registry.add_keys([a_key()])
    registry.revoke_key("key_1", at=5.0)
    revision = registry.revision()
    registry.revoke_key("key_1", at=6.0)
    assert registry.revision() == revision
    with pytest.raises(NotFound):
        registry.revoke_key("key_2", at=6.0)


def test_a_key_is_found_by_its_hash_also_when_it_is_revoked(registry: Registry) -> None:
    key = a_key()
    registry.add_keys([key])
    assert registry.find_key(key.hash) == key
    registry.revoke_key(key.id, at=5.0)
    assert registry.find_key(key.hash) == replace(key, revoked_at=5.0)
    assert registry.find_key("0" * 64) is None


def test_keys_are_added_all_or_none(registry: Registry) -> None:
    registry.add_keys([a_key("key_1")])
    with pytest.raises(Conflict):
        registry.add_keys([a_key("key_2"), a_key("key_3", hash=a_key("key_1").hash)])
    assert registry.keys() == [a_key("key_1")]


def test_a_file_is_found_by_its_unit_and_by_no_other(registry: Registry) -> None:
    file = a_file()
    registry.add_file(file)
    assert registry.file(file.id, unit=SUPPORT) == registry.file(file.id, unit=None) == file
    with pytest.raises(NotFound):
        registry.file(file.id, unit=SALES)
    with pytest.raises(NotFound):
        registry.delete_file(file.id, unit=SALES)


def test_a_file_is_added_once(registry: Registry) -> None:
    file = a_file()
    registry.add_file(file)
    with pytest.raises(Conflict):
        registry.add_file(file)


@pytest.mark.parametrize("newest_first", [True, False])
def test_files_come_in_pages_of_one_unit_and_purpose(
    registry: Registry, newest_first: bool
) -> None:
    mine = [a_file() for _ in range(5)]
    for file in mine:
        registry.add_file(file)
        registry.add_file(a_file(SALES))
        registry.add_file(a_file(purpose="fine-tune-results"))
    expected = mine[::-1] if newest_first else mine
    found: list[StoredFile] = []
    after: str | None = None
    more = True
    while more:
        page = registry.files(
            unit=SUPPORT, purpose="fine-tune", after=after, limit=2, newest_first=newest_first
        )
        found += page.items
        more, after = page.has_more, page.items[-1].id
    assert found == expected


def test_another_units_file_is_no_cursor(registry: Registry) -> None:
    foreign = a_file(SALES)
    registry.add_file(foreign)
    for cursor in (foreign.id, "file-unknown"):
        with pytest.raises(NotFound):
            registry.files(unit=SUPPORT, purpose=None, after=cursor, limit=2, newest_first=True)


@pytest.mark.parametrize("role", ["training_file", "validation_file"])
def test_a_file_stays_while_an_unfinished_job_names_it(registry: Registry, role: str) -> None:
    file = a_file()
    registry.add_file(file)
    job = registry.add_job(a_job(SUPPORT, **{role: file.id}))
    with pytest.raises(Conflict) as raised:
        registry.delete_file(file.id, unit=SUPPORT)
    assert raised.value.reason == "file_in_use"
    registry.move_job(job.id, JobStatus.CANCELLED, fence=None, finished_at=3.0)
    registry.delete_file(file.id, unit=SUPPORT)
    with pytest.raises(NotFound):
        registry.file(file.id, unit=SUPPORT)


def test_deleting_a_file_tells_when_its_bytes_have_no_name_left(registry: Registry) -> None:
    first, second = a_file(), a_file(SALES)
    registry.add_file(first)
    registry.add_file(second)
    assert registry.delete_file(first.id, unit=None) is None
    assert registry.delete_file(second.id, unit=None) == second.digest


def test_an_unknown_file_cannot_be_deleted(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.delete_file(FileId("file-unknown"), unit=None)
