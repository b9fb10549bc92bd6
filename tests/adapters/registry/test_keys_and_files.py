"""What every registry does with keys and files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adapters.domain.api_keys import DAY_S, METRICS_NAME, Key, NewKey, succeed
from adapters.domain.files import StoredFile
from adapters.domain.jobs import StopRequest
from adapters.domain.limits import KeyLimits
from adapters.domain.names import FileId
from adapters.domain.principals import SYSTEM, Principal, Role, Scope
from adapters.errors import Conflict, InvalidRequest, NotFound, NotPermitted
from adapters.registry import Registry
from adapters.registry.ports import Which
from tests.adapters.registry.backends import Backend, Clock
from tests.adapters.registry.values import (
    ADMIN,
    ALIAS,
    OWNER,
    SALES,
    STRANGER,
    SUPPORT,
    a_file,
    a_key,
    added_file,
    created,
)

TRAINER = Principal(id="key_t", role=Role.TRAINER, unit=None)


def test_keys_come_back_oldest_first_until_they_are_revoked(registry: Registry) -> None:
    unit, admin = registry.keys.add([a_key("key_9"), a_key("key_2", role=Role.ADMIN, unit=None)])
    assert registry.keys.active() == [unit, admin]
    registry.keys.revoke("key_9", by=ADMIN)
    assert registry.keys.active() == [admin]


def test_a_key_is_found_by_its_hash_revoked_or_not(registry: Registry, clock: Clock) -> None:
    (key,) = registry.keys.add([a_key()])
    assert key.created_at == clock.now
    assert registry.keys.find(key.hash) == key
    revoked = registry.keys.revoke(key.id, by=ADMIN)
    assert registry.keys.find(key.hash) == revoked
    assert revoked.revoked_at == clock.now
    assert registry.keys.find("f" * 64) is None


def test_revoking_again_changes_nothing_and_an_unknown_key_is_not_found(
    registry: Registry, clock: Clock
) -> None:
    registry.keys.add([a_key()])
    first = registry.keys.revoke("key_1", by=ADMIN)
    revision = registry.routes.revision()
    clock.pass_by(5.0)
    assert registry.keys.revoke("key_1", by=ADMIN) == first
    assert registry.routes.revision() == revision
    with pytest.raises(NotFound):
        registry.keys.revoke("key_2", by=ADMIN)


def test_keys_are_added_all_or_none(registry: Registry) -> None:
    kept = registry.keys.add([a_key("key_1")])
    again = a_key("key_3", hash=a_key("key_1").hash)
    with pytest.raises(Conflict) as raised:
        registry.keys.add([a_key("key_2"), again])
    assert raised.value.reason == "key_exists"
    assert registry.keys.active() == kept


def test_a_brought_key_ends_the_one_brought_for_its_owner_before_and_no_other(
    registry: Registry,
) -> None:
    (made,) = registry.keys.add([a_key("key_1")])
    first = registry.keys.bring(a_key("key_2"))
    other = registry.keys.bring(a_key("key_3", unit=SALES))
    admin = registry.keys.bring(a_key("key_4", role=Role.ADMIN, unit=None))
    second = registry.keys.bring(a_key("key_5"))
    assert registry.keys.active() == [made, other, admin, second]
    ended = registry.keys.find(first.hash)
    assert ended is not None
    assert ended.revoked_at is not None


def test_bringing_a_key_again_changes_nothing(registry: Registry) -> None:
    first = registry.keys.bring(a_key("key_1"))
    revision = registry.routes.revision()
    assert registry.keys.bring(a_key("key_9", hash=first.hash)) == first
    assert registry.routes.revision() == revision


def test_a_revoked_or_another_owners_key_that_is_brought_ends_nothing(registry: Registry) -> None:
    first = registry.keys.bring(a_key("key_1"))
    second = registry.keys.bring(a_key("key_2"))
    other = registry.keys.bring(a_key("key_3", unit=SALES))
    assert registry.keys.bring(a_key("key_4", hash=first.hash)).revoked_at is not None
    assert registry.keys.bring(a_key("key_5", hash=other.hash)) == other
    assert registry.keys.active() == [second, other]


def test_a_made_key_that_is_brought_is_ended_by_the_next(registry: Registry) -> None:
    (made,) = registry.keys.add([a_key("key_1")])
    assert registry.keys.bring(a_key("key_9", hash=made.hash)) == made
    second = registry.keys.bring(a_key("key_2"))
    assert registry.keys.active() == [second]


def test_a_registry_keeps_to_one_pepper_until_its_keys_are_reset(registry: Registry) -> None:
    registry.keys.check_pepper("a" * 64)
    registry.keys.check_pepper("a" * 64)
    registry.keys.add([a_key("key_1"), a_key("key_2")])
    registry.keys.revoke("key_2", by=ADMIN)
    with pytest.raises(Conflict) as raised:
        registry.keys.check_pepper("b" * 64)
    assert raised.value.reason == "pepper_changed"
    revision = registry.routes.revision()
    assert registry.keys.reset(by=SYSTEM) == 1
    assert registry.routes.revision() == revision + 1
    assert registry.keys.active() == []
    registry.keys.check_pepper("b" * 64)
    assert registry.keys.reset(by=SYSTEM) == 0


# -- keys for named holders


def issued(registry: Registry, key_id: str = "key_1", **changes: Any) -> Key:
    values = {"name": "shop", "expires_in": DAY_S, "scopes": frozenset({Scope.INFER}), **changes}
    return registry.keys.issue(a_key(key_id, **values), by=ADMIN, idempotency_key=None)


def test_an_issued_key_is_kept_with_its_grant_its_end_and_who_made_it(
    registry: Registry, clock: Clock
) -> None:
    revision = registry.routes.revision()
    made = issued(registry, aliases=frozenset({ALIAS}))
    assert registry.keys.get(made.id) == registry.keys.find(made.hash) == made
    assert registry.routes.changes(revision).keys == [made]
    assert (made.created_by, made.expires_at) == (ADMIN.id, clock.now + DAY_S)
    assert (made.scopes, made.aliases) == (frozenset({Scope.INFER}), frozenset({ALIAS}))


def test_a_keys_own_limits_travel_with_it_and_are_told(registry: Registry) -> None:
    limits = KeyLimits(requests_per_minute=60, tokens_per_day=0)
    revision = registry.routes.revision()
    made = issued(registry, name="shop", limits=limits)
    assert made.limits == made.principal().limits == limits
    assert registry.keys.active() == registry.routes.changes(revision).keys == [made]
    entry = registry.audit.list(ADMIN, Which(), after=None, limit=1).items[0]
    assert entry.after is not None
    assert entry.after["limits"] == {"requests_per_minute": 60, "tokens_per_day": 0}
    _secret, successor = succeed(made, pepper=b"p" * 32)
    assert successor.limits == limits


def test_only_whoever_sees_every_unit_gives_and_ends_keys(registry: Registry) -> None:
    made = issued(registry)
    scraper = replace(ADMIN, scopes=frozenset({Scope.METRICS}))
    for by in (OWNER, STRANGER, TRAINER, scraper):
        with pytest.raises(NotPermitted):
            registry.keys.issue(a_key("key_2", name="x"), by=by, idempotency_key=None)
        with pytest.raises(NotPermitted):
            registry.keys.rotate(
                made.id, a_key("key_2"), overlap_s=0.0, by=by, idempotency_key=None
            )
        with pytest.raises(NotPermitted):
            registry.keys.revoke(made.id, by=by)
        with pytest.raises(NotPermitted):
            registry.keys.reset(by=by)
    assert registry.keys.active() == [made]


def test_a_holder_has_two_keys_in_force_and_no_third(registry: Registry, clock: Clock) -> None:
    first, second = issued(registry, "key_1"), issued(registry, "key_2")
    with pytest.raises(Conflict) as raised:
        issued(registry, "key_3")
    assert raised.value.reason == "too_many_keys"
    other = issued(registry, "key_4", name="app")
    foreign = issued(registry, "key_5", unit=SALES)
    assert registry.keys.active() == [first, second, other, foreign]
    registry.keys.revoke(first.id, by=ADMIN)
    third = issued(registry, "key_6", expires_in=10 * DAY_S)
    clock.pass_by(DAY_S)
    assert registry.keys.active() == [third]
    issued(registry, "key_7")


def test_a_rotated_key_ends_after_the_overlap_and_its_successor_goes_on(
    registry: Registry, clock: Clock
) -> None:
    first = issued(registry, expires_in=10 * DAY_S)
    revision = registry.routes.revision()
    clock.pass_by(DAY_S)
    new = a_key("key_2", name=first.name, scopes=first.scopes, expires_in=10 * DAY_S)
    second = registry.keys.rotate(first.id, new, overlap_s=3600.0, by=ADMIN, idempotency_key=None)
    ending = registry.keys.get(first.id)
    assert ending.expires_at == clock.now + 3600.0
    assert second.expires_at == clock.now + 10 * DAY_S
    assert set(registry.routes.changes(revision).keys) == {ending, second}
    clock.pass_by(3600.0)
    assert registry.keys.active() == [second]
    with pytest.raises(Conflict) as raised:
        registry.keys.rotate(
            first.id, a_key("key_3"), overlap_s=0.0, by=ADMIN, idempotency_key=None
        )
    assert raised.value.reason == "key_ended"


def test_a_rotation_lengthens_no_life(registry: Registry, clock: Clock) -> None:
    first = issued(registry, expires_in=60.0)
    registry.keys.rotate(
        first.id, a_key("key_2", name="shop"), overlap_s=DAY_S, by=ADMIN, idempotency_key=None
    )
    assert registry.keys.get(first.id).expires_at == first.expires_at == clock.now + 60.0


@pytest.mark.parametrize("name", [None, METRICS_NAME])
def test_a_key_that_stands_in_a_file_is_rotated_there(registry: Registry, name: str | None) -> None:
    kept = registry.keys.bring(a_key("key_1", name=name))
    with pytest.raises(Conflict) as raised:
        registry.keys.rotate(kept.id, a_key("key_2"), overlap_s=0, by=ADMIN, idempotency_key=None)
    assert raised.value.reason == "key_not_rotatable"
    with pytest.raises(NotFound):
        registry.keys.rotate("key_9", a_key("key_2"), overlap_s=0, by=ADMIN, idempotency_key=None)


def test_a_brought_metrics_key_ends_no_admins_and_the_other_way_round(registry: Registry) -> None:
    def admins(key_id: str, **more: Any) -> NewKey:
        return a_key(key_id, role=Role.ADMIN, unit=None, **more)

    admin = registry.keys.bring(admins("key_1"))
    metrics = registry.keys.bring(admins("key_2", name=METRICS_NAME))
    assert registry.keys.active() == [admin, metrics]
    newer = registry.keys.bring(admins("key_3", name=METRICS_NAME))
    assert registry.keys.active() == [admin, newer]
    newest = registry.keys.bring(admins("key_4"))
    assert registry.keys.active() == [newer, newest]


def test_a_repeated_command_finds_the_key_it_made_and_other_words_do_not(
    registry: Registry,
) -> None:
    def issue(key_id: str, by: Principal = ADMIN, **changes: Any) -> Key:
        key = a_key(key_id, **{"name": "shop", "expires_in": DAY_S, **changes})
        return registry.keys.issue(key, by=by, idempotency_key="again")

    first = issue("key_1")
    assert issue("key_2") == first
    assert issue("key_3", by=replace(ADMIN, id="key_other")).id == "key_3"
    for other in ({"name": "app"}, {"scopes": frozenset({Scope.INFER})}, {"expires_in": 60.0}):
        with pytest.raises(Conflict) as raised:
            issue("key_4", **other)
        assert raised.value.reason == "idempotency_key_reused"

    def rotate(key_id: str, overlap_s: float = 60.0) -> Key:
        successor = a_key(key_id, name="shop", expires_in=DAY_S)
        return registry.keys.rotate(
            "key_3", successor, overlap_s=overlap_s, by=ADMIN, idempotency_key="turn"
        )

    registry.keys.revoke("key_1", by=ADMIN)
    second = rotate("key_5")
    assert rotate("key_6") == second
    with pytest.raises(Conflict):
        rotate("key_7", overlap_s=61.0)


def test_keys_come_in_pages_newest_first_and_a_page_goes_on_after_one_that_has_ended(
    registry: Registry,
) -> None:
    made = [issued(registry, f"key_{number}", name=f"n{number}") for number in range(5)][::-1]
    page = registry.keys.list(after=None, limit=2)
    assert (page.items, page.has_more) == (made[:2], True)
    registry.keys.revoke(made[1].id, by=ADMIN)
    page = registry.keys.list(after=made[1].id, limit=9)
    assert (page.items, page.has_more) == (made[2:], False)
    with pytest.raises(NotFound):
        registry.keys.list(after="key_unknown", limit=2)


def test_a_use_is_noted_to_the_hour_and_no_replica_is_told(
    registry: Registry, clock: Clock
) -> None:
    made = issued(registry)
    revision = registry.routes.revision()
    registry.keys.note_used([made.id, "key_gone"])
    first = registry.keys.get(made.id).last_used_at
    assert first is not None
    assert first % 3600 == 0
    assert clock.now - 3600 < first <= clock.now
    clock.pass_by(2 * 3600.0)
    registry.keys.note_used([made.id])
    assert registry.keys.get(made.id).last_used_at == first + 2 * 3600.0
    assert registry.routes.revision() == revision


def test_a_file_is_found_by_its_unit_and_by_no_other(registry: Registry, clock: Clock) -> None:
    file = added_file(registry)
    assert file.created_at == clock.now
    for principal in (OWNER, ADMIN, SYSTEM):
        assert registry.files.get(file.id, principal) == file
    for principal in (STRANGER, TRAINER):
        with pytest.raises(NotFound):
            registry.files.get(file.id, principal)
        with pytest.raises(NotFound):
            registry.files.delete(file.id, principal)
        assert (
            registry.files.list(
                principal, purpose=None, after=None, limit=9, newest_first=True
            ).items
            == []
        )


def test_a_file_is_added_once(registry: Registry) -> None:
    file = a_file()
    registry.files.add(file, by=OWNER)
    with pytest.raises(Conflict):
        registry.files.add(file, by=OWNER)


@pytest.mark.parametrize("newest_first", [True, False])
def test_files_come_in_pages_of_one_unit_and_purpose(
    registry: Registry, newest_first: bool
) -> None:
    mine = []
    for _ in range(5):
        mine.append(added_file(registry))
        added_file(registry, SALES)
        added_file(registry, purpose="fine-tune-results")
    expected = mine[::-1] if newest_first else mine
    found: list[StoredFile] = []
    after: str | None = None
    more = True
    while more:
        page = registry.files.list(
            OWNER, purpose="fine-tune", after=after, limit=2, newest_first=newest_first
        )
        found += page.items
        more, after = page.has_more, page.items[-1].id
    assert found == expected


def test_a_list_goes_on_after_a_file_that_was_deleted_meanwhile(registry: Registry) -> None:
    first, second, third = (added_file(registry) for _ in range(3))
    page = registry.files.list(OWNER, purpose=None, after=None, limit=2, newest_first=True)
    assert page.items == [third, second]
    registry.files.delete(second.id, OWNER)
    rest = registry.files.list(OWNER, purpose=None, after=second.id, limit=2, newest_first=True)
    assert rest.items == [first]


def test_another_units_file_is_no_cursor(registry: Registry) -> None:
    foreign = added_file(registry, SALES)
    for cursor in (foreign.id, "file-unknown"):
        with pytest.raises(NotFound):
            registry.files.list(OWNER, purpose=None, after=cursor, limit=2, newest_first=True)


@pytest.mark.parametrize("role", ["training_file", "validation_file"])
def test_a_file_stays_while_an_unfinished_job_names_it(registry: Registry, role: str) -> None:
    file = added_file(registry)
    job = created(registry, SUPPORT, **{role: file.id})
    with pytest.raises(Conflict) as raised:
        registry.files.delete(file.id, OWNER)
    assert raised.value.reason == "file_in_use"
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    registry.files.delete(file.id, OWNER)
    with pytest.raises(NotFound):
        registry.files.get(file.id, OWNER)
    with pytest.raises(NotFound):
        registry.files.delete(file.id, OWNER)


def test_a_deleted_files_bytes_are_no_root_once_no_file_names_them(registry: Registry) -> None:
    first, second = added_file(registry), added_file(registry, SALES)
    registry.files.delete(first.id, SYSTEM)
    assert registry.collection.roots() == {second.digest}
    registry.files.delete(second.id, SYSTEM)
    assert registry.collection.roots() == set()


def test_an_unknown_file_cannot_be_deleted(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.files.delete(FileId("file-unknown"), SYSTEM)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=["nul", "half-a-pair"])
def test_text_that_a_database_does_not_keep_is_refused_without_being_told(
    registry: Registry, backend: Backend, text: str
) -> None:
    if backend.is_sqlite and text == "a\0b":
        assert added_file(registry, filename=text).filename == text
        return
    with pytest.raises(InvalidRequest) as raised:
        added_file(registry, filename=text)
    assert text not in raised.value.message
    with pytest.raises(InvalidRequest):
        registry.files.get(FileId(text), OWNER)
    assert added_file(registry).unit == SUPPORT
