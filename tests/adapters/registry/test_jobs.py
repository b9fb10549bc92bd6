"""What every registry does with jobs: how they begin, how they are found, what they tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.domain.jobs import JobError, JobStatus, StopRequest
from adapters.domain.names import FileId, JobId, new_job_id
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import Hyperparameters
from adapters.errors import Conflict, IllegalTransition, NotFound
from adapters.registry import Registry
from adapters.registry.ports import Progress
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    OWNER,
    SALES,
    STRANGER,
    SUPPORT,
    a_job,
    added_file,
    created,
    queued,
)

UNKNOWN = JobId("ftjob-unknown")


def test_a_job_begins_with_the_validation_of_its_files(registry: Registry, clock: Clock) -> None:
    file = added_file(registry)
    asked = a_job(
        registry,
        validation_file=file.id,
        suffix="emea",
        hyperparameters=Hyperparameters(learning_rate_multiplier=0.5),
        metadata=None,
    )
    job = registry.jobs.create(asked, OWNER, idempotency_key=None)
    assert (job.status, job.created_at) == (JobStatus.VALIDATING_FILES, clock.now)
    assert (job.created_by, job.seed, job.metadata) == (OWNER.id, 2**30, None)
    assert registry.jobs.get(job.id, OWNER) == registry.jobs.get(job.id, SYSTEM) == job


def test_a_foreign_or_unknown_job_is_not_found(registry: Registry) -> None:
    job = created(registry)
    with pytest.raises(NotFound):
        registry.jobs.get(job.id, STRANGER)
    with pytest.raises(NotFound):
        registry.jobs.get(UNKNOWN, SYSTEM)
    with pytest.raises(NotFound):
        registry.jobs.request_stop(job.id, StopRequest.CANCEL, STRANGER)
    with pytest.raises(NotFound):
        registry.jobs.resume(job.id, STRANGER)
    for ask in (registry.jobs.events, registry.jobs.checkpoints):
        with pytest.raises(NotFound):
            ask(job.id, STRANGER, after=None, limit=3)


def test_nobody_creates_a_job_for_another_unit(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.jobs.create(a_job(registry, SALES), OWNER, idempotency_key=None)


@pytest.mark.parametrize("role", ["training_file", "validation_file"])
def test_a_job_reads_files_of_its_own_unit_only(registry: Registry, role: str) -> None:
    foreign, deleted = added_file(registry, SALES), added_file(registry)
    registry.files.delete(deleted.id, OWNER)
    for file_id in (foreign.id, deleted.id, FileId("file-unknown")):
        with pytest.raises(NotFound) as raised:
            created(registry, SUPPORT, **{role: file_id})
        assert raised.value.param == role


def test_a_job_without_a_seed_gets_one(registry: Registry) -> None:
    seeds = {created(registry, seed=None).seed for _ in range(3)}
    assert len(seeds) == 3


def test_a_repeated_idempotency_key_gives_the_first_job(registry: Registry) -> None:
    words = a_job(registry, seed=None)
    first = registry.jobs.create(words, OWNER, idempotency_key="again")
    again = replace(words, id=new_job_id())
    assert registry.jobs.create(again, OWNER, idempotency_key="again") == first
    foreign = registry.jobs.create(a_job(registry, SALES), STRANGER, idempotency_key="again")
    assert foreign != first
    assert registry.jobs.create(again, OWNER, idempotency_key=None) != first
    page = registry.jobs.list(OWNER, metadata=None, after=None, limit=9)
    assert len(page.items) == 2


def test_a_job_with_an_idempotency_key_is_found_by_its_metadata(registry: Registry) -> None:
    """On PostgreSQL it was taken for a repetition, and its pairs were not kept."""
    job = registry.jobs.create(a_job(registry), OWNER, idempotency_key="again")
    found = registry.jobs.list(OWNER, metadata={"team": "emea"}, after=None, limit=9)
    assert [each.id for each in found.items] == [job.id]


def test_a_repeated_key_finds_its_job_although_the_file_was_deleted(registry: Registry) -> None:
    words = a_job(registry)
    first = registry.jobs.create(words, OWNER, idempotency_key="again")
    cancelled = registry.jobs.request_stop(first.id, StopRequest.CANCEL, OWNER)
    registry.files.delete(first.training_file, OWNER)
    assert registry.jobs.create(words, OWNER, idempotency_key="again") == cancelled


@pytest.mark.parametrize(
    "change",
    [{"seed": 5}, {"suffix": "x"}, {"metadata": {}}, {"hyperparameters": Hyperparameters()}],
    ids=lambda change: next(iter(change)),
)
def test_an_idempotency_key_with_other_words_is_refused(
    registry: Registry, change: dict[str, object]
) -> None:
    words = a_job(registry)
    registry.jobs.create(words, OWNER, idempotency_key="again")
    other = replace(words, id=new_job_id(), **change)  # type: ignore[arg-type]
    with pytest.raises(Conflict) as raised:
        registry.jobs.create(other, OWNER, idempotency_key="again")
    assert raised.value.reason == "idempotency_key_reused"


def test_the_same_job_id_is_stored_once(registry: Registry) -> None:
    words = a_job(registry)
    registry.jobs.create(words, OWNER, idempotency_key=None)
    for key in (None, "another"):
        with pytest.raises(Conflict):
            registry.jobs.create(words, OWNER, idempotency_key=key)


def test_jobs_come_in_pages_newest_first(registry: Registry) -> None:
    mine = []
    for _ in range(5):
        mine.append(created(registry))
        created(registry, SALES)
    first = registry.jobs.list(OWNER, metadata=None, after=None, limit=3)
    rest = registry.jobs.list(OWNER, metadata=None, after=first.items[-1].id, limit=3)
    assert [*first.items, *rest.items] == mine[::-1]
    assert (first.has_more, rest.has_more) == (True, False)
    with pytest.raises(NotFound):
        registry.jobs.list(STRANGER, metadata=None, after=mine[0].id, limit=3)


def test_jobs_are_found_by_every_pair_of_their_metadata(registry: Registry) -> None:
    both = created(registry, metadata={"team": "emea", 'a."b': "1"})
    created(registry, metadata={"team": "emea"})
    created(registry, metadata=None)
    wanted = {"team": "emea", 'a."b': "1"}
    assert registry.jobs.list(SYSTEM, metadata=wanted, after=None, limit=9).items == [both]


def test_jobs_of_some_statuses_come_oldest_first(registry: Registry) -> None:
    first, second, third = queued(registry), created(registry), queued(registry)
    failed = registry.jobs.accept(
        created(registry).id, error=JobError(code="invalid_training_file", message="x")
    )
    assert registry.jobs.in_status(JobStatus.QUEUED) == [first, third]
    both = registry.jobs.in_status(JobStatus.FAILED, JobStatus.VALIDATING_FILES)
    assert both == [second, failed]


def test_validation_ends_in_the_queue_or_in_a_failure(registry: Registry, clock: Clock) -> None:
    good, bad = created(registry), created(registry)
    assert registry.jobs.accept(good.id, error=None).status is JobStatus.QUEUED
    error = JobError(code="invalid_training_file", message="line 3", param="training_file")
    failed = registry.jobs.accept(bad.id, error=error)
    assert (failed.status, failed.error, failed.finished_at) == ("failed", error, clock.now)
    for job in (good, bad):
        with pytest.raises(IllegalTransition):
            registry.jobs.accept(job.id, error=None)


# -- what jobs tell


def test_events_are_ordered_and_come_in_pages_newest_first(
    registry: Registry, clock: Clock
) -> None:
    job, other = created(registry), created(registry)
    told = []
    for step in range(5):
        clock.pass_by(1.0)
        told.append(
            registry.jobs.say(
                job.id, f"step {step}", type="metrics", data={"step": step, "loss": 0.5}
            )
        )
        registry.jobs.say(other.id, "other", level="warn")
    assert told[-1].created_at == clock.now
    first = registry.jobs.events(job.id, OWNER, after=None, limit=3)
    rest = registry.jobs.events(job.id, OWNER, after=str(first.items[-1].id), limit=3)
    assert [*first.items, *rest.items] == told[::-1]
    assert (first.has_more, rest.has_more) == (True, False)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "٣", "9" * 30])
def test_text_that_is_no_number_is_no_cursor(registry: Registry, cursor: str) -> None:
    job = created(registry)
    with pytest.raises(NotFound):
        registry.jobs.events(job.id, OWNER, after=cursor, limit=3)
    with pytest.raises(NotFound):
        registry.jobs.checkpoints(job.id, OWNER, after=cursor, limit=3)


def test_a_number_too_high_for_any_row_is_a_cursor_after_none(registry: Registry) -> None:
    job = created(registry)
    told = registry.jobs.say(job.id, "x")
    assert registry.jobs.events(job.id, OWNER, after="9" * 18, limit=3).items == [told]


def test_nothing_is_told_of_an_unknown_job(registry: Registry) -> None:
    progress = Progress(seconds_left=1.0, message="x", data={"step": 1})
    for ask in (
        lambda: registry.jobs.say(UNKNOWN, "x"),
        lambda: registry.jobs.report_progress(UNKNOWN, progress, fence=1),
        lambda: registry.jobs.events(UNKNOWN, SYSTEM, after=None, limit=1),
        lambda: registry.jobs.checkpoints(UNKNOWN, SYSTEM, after=None, limit=1),
        lambda: registry.jobs.resume(UNKNOWN, SYSTEM),
        lambda: registry.jobs.accept(UNKNOWN, error=None),
    ):
        with pytest.raises(NotFound):
            ask()
