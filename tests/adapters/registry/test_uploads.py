"""What every registry does with uploads in parts, and with files whose time has come."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from adapters.domain.jobs import StopRequest
from adapters.domain.names import Digest, PartId, UploadId, new_part_id, new_upload_id
from adapters.domain.uploads import MAX_OPEN, MAX_PARTS, PENDING_SECONDS, UploadStatus
from adapters.errors import Conflict, NotFound, TooLarge, Unavailable
from adapters.registry import Registry
from adapters.registry.ports import NewPart, Retention
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    OWNER,
    SALES,
    STRANGER,
    a_file,
    a_job,
    a_part,
    added_file,
    an_upload,
    created,
)

DAY = 86_400.0


def test_an_upload_becomes_the_file_and_answers_so_ever_after(
    registry: Registry, clock: Clock
) -> None:
    begun = registry.uploads.begin(an_upload(lifetime=7200), by=OWNER)
    assert (begun.status, begun.file) == (UploadStatus.PENDING, None)
    assert begun.expires_at == clock.now + PENDING_SECONDS
    registry.uploads.add_part(begun.id, a_part(), OWNER)
    file = a_file(lifetime=begun.lifetime)
    done = registry.uploads.complete(begun.id, file, OWNER)
    assert (done.status, done.file) == (
        UploadStatus.COMPLETED,
        registry.files.get(file.id, OWNER),
    )
    assert registry.uploads.complete(begun.id, a_file(), OWNER) == done
    assert registry.uploads.get(begun.id, OWNER) == done
    assert [
        each.id
        for each in registry.files.list(
            OWNER, purpose=None, after=None, limit=9, newest_first=True
        ).items
    ] == [file.id]


def test_parts_come_in_the_order_that_is_asked_for_and_equal_ones_are_one(
    registry: Registry,
) -> None:
    upload = registry.uploads.begin(an_upload(), by=OWNER)
    first, second = (registry.uploads.add_part(upload.id, a_part(c), OWNER) for c in "12")
    assert registry.uploads.add_part(upload.id, a_part("1"), OWNER) == first
    order = [second.id, first.id, second.id]
    assert list(registry.uploads.parts(upload.id, order, OWNER)) == [second, first, second]
    with pytest.raises(NotFound) as missing:
        registry.uploads.parts(upload.id, [first.id, new_part_id()], OWNER)
    assert missing.value.param == "part_ids"


def test_parts_of_another_upload_are_not_there(registry: Registry) -> None:
    mine, other = (registry.uploads.begin(an_upload(), by=OWNER) for _ in range(2))
    part = registry.uploads.add_part(other.id, a_part(), OWNER)
    with pytest.raises(NotFound):
        registry.uploads.parts(mine.id, [part.id], OWNER)


def test_another_units_upload_and_an_unknown_one_are_not_found(registry: Registry) -> None:
    theirs = registry.uploads.begin(an_upload(SALES), by=STRANGER)
    calls: list[Callable[[UploadId], object]] = [
        lambda each: registry.uploads.get(each, OWNER),
        lambda each: registry.uploads.add_part(each, a_part(), OWNER),
        lambda each: registry.uploads.parts(each, [PartId("part_1")], OWNER),
        lambda each: registry.uploads.complete(each, a_file(), OWNER),
        lambda each: registry.uploads.cancel(each, OWNER),
    ]
    for upload_id in (theirs.id, new_upload_id()):
        for call in calls:
            with pytest.raises(NotFound):
                call(upload_id)
    with pytest.raises(NotFound):
        registry.uploads.begin(an_upload(SALES), by=OWNER)


def test_an_upload_takes_what_it_has_announced_and_no_more(registry: Registry) -> None:
    upload = registry.uploads.begin(an_upload(size_bytes=25), by=OWNER)
    for digest in "12":
        registry.uploads.add_part(upload.id, a_part(digest), OWNER)
    with pytest.raises(TooLarge):
        registry.uploads.add_part(upload.id, a_part("3"), OWNER)
    assert registry.uploads.add_part(upload.id, a_part("3", size_bytes=5), OWNER)


def test_parts_and_pending_uploads_are_so_many(registry: Registry, clock: Clock) -> None:
    upload = registry.uploads.begin(an_upload(size_bytes=10**6), by=OWNER)
    for number in range(MAX_PARTS):
        registry.uploads.add_part(upload.id, numbered_part(number), OWNER)
    with pytest.raises(Conflict) as full:
        registry.uploads.add_part(upload.id, numbered_part(MAX_PARTS), OWNER)
    assert full.value.reason == "too_many_parts"
    for _ in range(MAX_OPEN - 1):
        registry.uploads.begin(an_upload(), by=OWNER)
    with pytest.raises(Conflict) as many:
        registry.uploads.begin(an_upload(), by=OWNER)
    assert many.value.reason == "too_many_uploads"
    assert registry.uploads.begin(an_upload(SALES), by=STRANGER)
    registry.uploads.cancel(upload.id, OWNER)
    assert registry.uploads.begin(an_upload(), by=OWNER)
    clock.pass_by(PENDING_SECONDS)
    assert registry.uploads.begin(an_upload(), by=OWNER)


def test_what_is_over_takes_no_part_and_ends_in_no_other_way(
    registry: Registry, clock: Clock
) -> None:
    done, cancelled, expired = (registry.uploads.begin(an_upload(), by=OWNER) for _ in range(3))
    registry.uploads.complete(done.id, a_file(), OWNER)
    gone = registry.uploads.cancel(cancelled.id, OWNER)
    assert registry.uploads.cancel(cancelled.id, OWNER) == gone
    clock.pass_by(PENDING_SECONDS)
    assert registry.uploads.get(expired.id, OWNER).status is UploadStatus.EXPIRED
    refused: list[Callable[[], object]] = [
        partial(registry.uploads.cancel, done.id, OWNER),
        partial(registry.uploads.complete, cancelled.id, a_file(), OWNER),
        partial(registry.uploads.complete, expired.id, a_file(), OWNER),
        partial(registry.uploads.cancel, expired.id, OWNER),
    ]
    for each in (done, cancelled, expired):
        refused.append(partial(registry.uploads.add_part, each.id, a_part(), OWNER))
    for call in refused:
        with pytest.raises(Conflict) as raised:
            call()
        assert raised.value.reason == "upload_ended"


def test_bytes_of_parts_are_kept_as_long_as_their_upload_is_pending(
    registry: Registry, clock: Clock
) -> None:
    uploads = [registry.uploads.begin(an_upload(), by=OWNER) for _ in range(3)]
    for upload, digest in zip(uploads, "123", strict=True):
        registry.uploads.add_part(upload.id, a_part(digest), OWNER)
    done, cancelled, _expired = uploads
    assert registry.collection.roots() == {Digest(c * 64) for c in "123"}
    registry.uploads.complete(done.id, a_file(digest=Digest("f" * 64)), OWNER)
    registry.uploads.cancel(cancelled.id, OWNER)
    assert registry.collection.roots() == {Digest(c * 64) for c in "3f"}
    clock.pass_by(PENDING_SECONDS)
    assert collect(registry) == {"upload_parts": 1}
    assert registry.collection.roots() == {Digest("f" * 64)}
    clock.pass_by(DAY)
    assert collect(registry) == {"uploads": 3}
    with pytest.raises(NotFound):
        registry.uploads.get(done.id, OWNER)


def test_a_part_whose_bytes_are_being_deleted_waits(registry: Registry) -> None:
    upload = registry.uploads.begin(an_upload(), by=OWNER)
    part = a_part("9")
    registry.collection.condemn({part.digest})
    with pytest.raises(Unavailable):
        registry.uploads.add_part(upload.id, part, OWNER)
    with pytest.raises(Unavailable):
        registry.uploads.complete(upload.id, a_file(digest=part.digest), OWNER)
    registry.collection.clear({part.digest})
    assert registry.uploads.add_part(upload.id, part, OWNER).digest == part.digest


# -- files whose time has come


def test_a_file_is_gone_when_its_time_has_come(registry: Registry, clock: Clock) -> None:
    kept, file = added_file(registry), added_file(registry, lifetime=3600)
    assert (kept.expires_at, file.expires_at) == (None, clock.now + 3600)
    assert collect(registry) == {}
    clock.pass_by(3599.0)
    assert registry.files.get(file.id, OWNER) == file
    clock.pass_by(1.0)
    for call in (registry.files.get, registry.files.delete):
        with pytest.raises(NotFound):
            call(file.id, OWNER)
    with pytest.raises(NotFound):
        created(registry, training_file=file.id)
    listed = registry.files.list(OWNER, purpose=None, after=None, limit=9, newest_first=True)
    assert [each.id for each in listed.items] == [kept.id]
    assert collect(registry) == {"expired_files": 1}
    assert collect(registry) == {}
    registry.files.delete(kept.id, OWNER)
    assert registry.collection.roots() == set()


def test_a_file_under_an_unfinished_job_goes_when_that_has_ended(
    registry: Registry, clock: Clock
) -> None:
    training, validation = (added_file(registry, lifetime=3600) for _ in range(2))
    new = a_job(registry, training_file=training.id, validation_file=validation.id)
    job = registry.jobs.create(new, OWNER, idempotency_key=None)
    clock.pass_by(7200.0)
    assert collect(registry) == {}
    for file in (training, validation):
        assert registry.files.get(file.id, OWNER) == file
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    for file in (training, validation):
        with pytest.raises(NotFound):
            registry.files.get(file.id, OWNER)
    assert collect(registry) == {"expired_files": 2}


def numbered_part(number: int) -> NewPart:
    return NewPart(id=new_part_id(), digest=Digest(f"{number:064x}"), size_bytes=10)


def collect(registry: Registry) -> dict[str, int]:
    counts = registry.collection.collect(Retention())
    return {kind: count for kind, count in counts.items() if count}
