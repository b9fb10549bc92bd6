"""What every registry does with jobs: the queue, the lease, stopping, what jobs tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.domain.jobs import JobError, JobStatus, StopRequest
from adapters.domain.names import FileId, JobId, new_job_id
from adapters.domain.principals import SYSTEM, Principal, Role
from adapters.domain.recipes import Hyperparameters
from adapters.domain.routes import RolloutState
from adapters.errors import Conflict, IllegalTransition, LeaseLost, NotFound
from adapters.registry import Registry
from adapters.registry.ports import Progress
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    LEASE_S,
    OWNER,
    SALES,
    STRANGER,
    SUPPORT,
    a_build,
    a_gate,
    a_job,
    added_file,
    claimed,
    created,
    fence_of,
    in_status,
    joined,
    load,
    promote,
    queued,
    trained,
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


# -- the queue


def test_a_trainer_claims_the_oldest_queued_job(registry: Registry, clock: Clock) -> None:
    created(registry)
    first, second = queued(registry), queued(registry)
    job = claimed(registry)
    assert (job.id, job.status, job.attempts) == (first.id, "running", 1)
    assert job.started_at == clock.now
    assert job.lease is not None
    assert (job.lease.owner, job.lease.until) == ("trainer-1", clock.now + LEASE_S)
    assert claimed(registry).id == second.id
    assert registry.jobs.claim(owner="t", lease_seconds=LEASE_S) is None


def test_units_take_turns(registry: Registry) -> None:
    mine = [queued(registry) for _ in range(3)]
    theirs = [queued(registry, SALES) for _ in range(2)]
    order = [claimed(registry).id for _ in range(5)]
    assert order == [mine[0].id, theirs[0].id, mine[1].id, theirs[1].id, mine[2].id]


def test_a_unit_that_comes_late_does_not_wait_for_anothers_whole_queue(registry: Registry) -> None:
    for _ in range(4):
        queued(registry)
    claimed(registry)
    claimed(registry)
    late = queued(registry, SALES)
    assert claimed(registry).id == late.id


def test_a_deserted_job_is_taken_over_under_a_higher_fence(
    registry: Registry, clock: Clock
) -> None:
    queued(registry)
    first = claimed(registry)
    clock.pass_by(LEASE_S - 0.1)
    assert registry.jobs.claim(owner="t", lease_seconds=LEASE_S) is None
    clock.pass_by(0.1)
    second = claimed(registry, owner="trainer-2")
    assert fence_of(second) > fence_of(first)
    assert (second.attempts, second.started_at) == (2, first.started_at)


def test_a_heartbeat_keeps_the_job(registry: Registry, clock: Clock) -> None:
    queued(registry)
    job = claimed(registry)
    clock.pass_by(20.0)
    registry.jobs.heartbeat(job.id, fence=fence_of(job), lease_seconds=LEASE_S)
    clock.pass_by(15.0)
    assert registry.jobs.claim(owner="t", lease_seconds=LEASE_S) is None


def test_a_clock_that_went_back_shortens_no_lease(registry: Registry, clock: Clock) -> None:
    queued(registry)
    job = claimed(registry)
    clock.pass_by(-3600.0)
    after = registry.jobs.heartbeat(job.id, fence=fence_of(job), lease_seconds=LEASE_S)
    assert after.lease == job.lease


def test_whoever_lost_the_lease_is_refused_everything(registry: Registry, clock: Clock) -> None:
    zombie, version = trained(registry)
    clock.pass_by(LEASE_S)
    holder = claimed(registry, owner="trainer-2")
    jobs, old = registry.jobs, fence_of(zombie)
    progress = Progress(seconds_left=1.0, message="x", data={"step": 1}, checkpoint={"loss": 1.0})
    for ask in (
        lambda: jobs.heartbeat(zombie.id, fence=old, lease_seconds=LEASE_S),
        lambda: jobs.resolve(zombie.id, fence=old, recipe={}),
        lambda: jobs.report_progress(zombie.id, progress, fence=old),
        lambda: jobs.trained(zombie.id, fence=old, tokens=1),
        lambda: jobs.finish(zombie.id, JobStatus.SUCCEEDED, fence=old),
        lambda: registry.versions.publish(a_build(), job_id=zombie.id, fence=old),
        lambda: registry.versions.record_gates(version.id, [a_gate()], fence=old, evidence={}),
    ):
        with pytest.raises(LeaseLost):
            ask()
    assert jobs.get(zombie.id, SYSTEM) == holder
    assert jobs.events(zombie.id, SYSTEM, after=None, limit=9).items == []
    assert registry.versions.by_id(version.id) == version


# -- a run


def test_a_run_tells_its_recipe_its_tokens_and_its_results(
    registry: Registry, clock: Clock
) -> None:
    queued(registry)
    job = claimed(registry)
    fence = fence_of(job)
    resolved = registry.jobs.resolve(job.id, fence=fence, recipe={"rank": 8})
    assert resolved.resolved == {"rank": 8}
    trained_job = registry.jobs.trained(job.id, fence=fence, tokens=5_000_000_000)
    assert trained_job.trained_tokens == 5_000_000_000
    clock.pass_by(5.0)
    ended = registry.jobs.finish(
        job.id,
        JobStatus.SUCCEEDED,
        fence=fence,
        fine_tuned_model="support:1",
        result_files=[FileId("file-r")],
    )
    assert ended == registry.jobs.get(job.id, OWNER)
    assert (ended.fine_tuned_model, ended.result_files) == ("support:1", ("file-r",))
    assert (ended.status, ended.finished_at, ended.lease) == ("succeeded", clock.now, None)
    assert (ended.resolved, ended.trained_tokens) == ({"rank": 8}, 5_000_000_000)


def test_a_failure_tells_why(registry: Registry, clock: Clock) -> None:
    queued(registry)
    job = claimed(registry)
    error = JobError(code="gate_failed", message="no gain", param=None)
    failed = registry.jobs.finish(job.id, JobStatus.FAILED, fence=fence_of(job), error=error)
    assert failed == registry.jobs.get(job.id, SYSTEM)
    assert (failed.status, failed.finished_at, failed.error) == ("failed", clock.now, error)


def test_a_trainer_that_finished_can_do_no_more(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry)
    registry.jobs.finish(job.id, JobStatus.SUCCEEDED, fence=fence_of(job))
    with pytest.raises(LeaseLost):
        registry.jobs.finish(job.id, JobStatus.FAILED, fence=fence_of(job))


def test_progress_is_one_event_one_estimate_and_one_checkpoint(
    registry: Registry, clock: Clock
) -> None:
    queued(registry)
    job = claimed(registry)
    progress = Progress(
        seconds_left=60.0,
        message="step 10",
        data={"step": 10, "loss": 0.5},
        checkpoint={"valid_loss": 0.25},
    )
    registry.jobs.report_progress(job.id, progress, fence=fence_of(job))
    after = registry.jobs.get(job.id, OWNER)
    assert after.estimated_finish == clock.now + 60.0
    (event,) = registry.jobs.events(job.id, OWNER, after=None, limit=9).items
    assert (event.type, event.message, event.data) == ("metrics", "step 10", progress.data)
    (checkpoint,) = registry.jobs.checkpoints(job.id, OWNER, after=None, limit=9).items
    assert (checkpoint.step, checkpoint.metrics) == (10, {"valid_loss": 0.25})


def test_a_repeated_checkpoint_leaves_the_first(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry)
    for step, loss in ((10, 0.5), (10, 9.0), (20, 0.25)):
        progress = Progress(
            seconds_left=1.0, message="x", data={"step": step}, checkpoint={"valid_loss": loss}
        )
        registry.jobs.report_progress(job.id, progress, fence=fence_of(job))
    page = registry.jobs.checkpoints(job.id, OWNER, after=None, limit=9)
    assert [(c.step, c.metrics["valid_loss"]) for c in page.items] == [(20, 0.25), (10, 0.5)]
    after = registry.jobs.checkpoints(job.id, OWNER, after=str(page.items[0].id), limit=9)
    assert (after.items, after.has_more) == ([page.items[1]], False)


# -- stopping


@pytest.mark.parametrize("status", [JobStatus.VALIDATING_FILES, JobStatus.QUEUED, JobStatus.PAUSED])
def test_a_job_that_nobody_runs_is_cancelled_at_once(
    registry: Registry, clock: Clock, status: JobStatus
) -> None:
    job = in_status(registry, status)
    cancelled = registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    assert (cancelled.status, cancelled.finished_at) == (JobStatus.CANCELLED, clock.now)


@pytest.mark.parametrize("stop", list(StopRequest))
def test_repeating_a_wish_changes_nothing(
    registry: Registry, clock: Clock, stop: StopRequest
) -> None:
    job = in_status(registry, JobStatus.QUEUED)
    first = registry.jobs.request_stop(job.id, stop, OWNER)
    clock.pass_by(5.0)
    assert registry.jobs.request_stop(job.id, stop, OWNER) == first


def test_a_running_job_is_told_to_stop_at_its_next_heartbeat(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry)
    asked = registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    assert (asked.status, asked.stop_requested) == ("running", StopRequest.CANCEL)
    beat = registry.jobs.heartbeat(job.id, fence=fence_of(job), lease_seconds=LEASE_S)
    assert beat.stop_requested is StopRequest.CANCEL
    stopped = registry.jobs.finish(job.id, JobStatus.CANCELLED, fence=fence_of(job))
    assert stopped.stop_requested is None


@pytest.mark.parametrize("to", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.PAUSED])
def test_a_job_that_is_being_cancelled_moves_to_its_end_only(
    registry: Registry, to: JobStatus
) -> None:
    queued(registry)
    job = claimed(registry)
    fence = fence_of(job)
    asked = registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    progress = Progress(seconds_left=1.0, message="x", data={"step": 1})
    for ask in (
        lambda: registry.jobs.finish(job.id, to, fence=fence),
        lambda: registry.jobs.resolve(job.id, fence=fence, recipe={}),
        lambda: registry.jobs.trained(job.id, fence=fence, tokens=1),
        lambda: registry.jobs.report_progress(job.id, progress, fence=fence),
        lambda: registry.versions.publish(a_build(), job_id=job.id, fence=fence),
    ):
        with pytest.raises(LeaseLost):
            ask()
    assert registry.jobs.get(job.id, SYSTEM) == asked
    assert registry.versions.of_job(job.id) is None
    assert registry.jobs.finish(job.id, JobStatus.CANCELLED, fence=fence).status == "cancelled"


def test_an_acknowledged_cancel_proves_nothing(registry: Registry) -> None:
    job, version = trained(registry)
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    with pytest.raises(LeaseLost):
        registry.versions.record_gates(version.id, [a_gate()], fence=fence_of(job), evidence={})
    assert registry.versions.by_id(version.id) == version


def test_a_job_that_is_being_paused_may_still_finish(registry: Registry) -> None:
    job, version = trained(registry)
    registry.jobs.request_stop(job.id, StopRequest.PAUSE, OWNER)
    registry.versions.record_gates(version.id, [a_gate()], fence=fence_of(job), evidence={})
    ended = registry.jobs.finish(job.id, JobStatus.SUCCEEDED, fence=fence_of(job))
    assert ended.status is JobStatus.SUCCEEDED


def test_a_cancelled_job_puts_nothing_live_any_more(registry: Registry, clock: Clock) -> None:
    job, version = trained(registry)
    registry.versions.record_gates(version.id, [a_gate()], fence=fence_of(job), evidence={})
    trainer = Principal(id=job.id, role=Role.UNIT, unit=SUPPORT)
    begun = promote(registry, version, by=trainer)
    before = registry.routes.revision()
    clock.pass_by(5.0)
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    ended = registry.rollouts.get(begun.id)
    assert (ended.state, ended.finished_at) == (RolloutState.FAILED, clock.now)
    assert registry.routes.revision() > before
    load(registry, joined(registry), version)
    assert registry.rollouts.advance() == []
    with pytest.raises(Conflict) as refused:
        promote(registry, version, by=trainer)
    assert refused.value.reason == "job_state"
    assert promote(registry, version).state is RolloutState.LOADING


def test_a_cancel_is_not_softened_to_a_pause(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry)
    registry.jobs.request_stop(job.id, StopRequest.PAUSE, OWNER)
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    with pytest.raises(IllegalTransition):
        registry.jobs.request_stop(job.id, StopRequest.PAUSE, OWNER)
    assert registry.jobs.get(job.id, SYSTEM).stop_requested is StopRequest.CANCEL


def test_a_deserted_job_is_cancelled_at_once_and_its_trainer_hears_of_it(
    registry: Registry, clock: Clock
) -> None:
    queued(registry)
    job = claimed(registry)
    clock.pass_by(LEASE_S)
    cancelled = registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    assert cancelled.status is JobStatus.CANCELLED
    with pytest.raises(LeaseLost):
        registry.jobs.heartbeat(job.id, fence=fence_of(job), lease_seconds=LEASE_S)


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED])
@pytest.mark.parametrize("stop", list(StopRequest))
def test_a_finished_job_cannot_be_stopped(
    registry: Registry, status: JobStatus, stop: StopRequest
) -> None:
    job = in_status(registry, status)
    with pytest.raises(IllegalTransition):
        registry.jobs.request_stop(job.id, stop, OWNER)


def test_a_paused_job_is_resumed_under_a_higher_fence(registry: Registry) -> None:
    queued(registry)
    first = claimed(registry)
    registry.jobs.request_stop(first.id, StopRequest.PAUSE, OWNER)
    paused = registry.jobs.finish(first.id, JobStatus.PAUSED, fence=fence_of(first))
    assert (paused.lease, paused.stop_requested, paused.finished_at) == (None, None, None)
    assert registry.jobs.claim(owner="t", lease_seconds=LEASE_S) is None
    assert registry.jobs.resume(first.id, OWNER).status is JobStatus.QUEUED
    with pytest.raises(IllegalTransition):
        registry.jobs.resume(first.id, OWNER)
    assert fence_of(claimed(registry)) > fence_of(first)


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
