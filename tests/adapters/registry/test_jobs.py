"""What every registry does with jobs: the queue, the lease, stopping, what jobs tell."""

from __future__ import annotations

import pytest

from adapters.domain.jobs import Job, JobError, JobStatus, StopRequest
from adapters.domain.names import FileId, JobId
from adapters.domain.recipes import Hyperparameters
from adapters.domain.routes import RolloutState
from adapters.errors import Conflict, IllegalTransition, LeaseLost, NotFound
from adapters.registry import Registry
from tests.adapters.registry.values import (
    SALES,
    SUPPORT,
    a_build,
    a_gate,
    a_job,
    begin,
    claimed,
    fence_of,
    trained,
)


def queued(registry: Registry) -> Job:
    return registry.add_job(a_job())


def test_a_job_comes_back_as_it_was_stored(registry: Registry) -> None:
    job = a_job(
        validation_file=FileId("file-v"),
        suffix="emea",
        hyperparameters=Hyperparameters(learning_rate_multiplier=0.5),
        metadata=None,
        status=JobStatus.VALIDATING_FILES,
    )
    assert registry.add_job(job) == job
    assert registry.job(job.id, unit=SUPPORT) == registry.job(job.id, unit=None) == job


def test_a_foreign_or_unknown_job_is_not_found(registry: Registry) -> None:
    job = queued(registry)
    with pytest.raises(NotFound):
        registry.job(job.id, unit=SALES)
    with pytest.raises(NotFound):
        registry.job(JobId("ftjob-unknown"), unit=None)


def test_a_repeated_idempotency_key_gives_the_first_job(registry: Registry) -> None:
    first = registry.add_job(a_job(), idempotency_key="again")
    assert registry.add_job(a_job(), idempotency_key="again") == first
    assert registry.add_job(a_job(SALES), idempotency_key="again") != first
    assert registry.add_job(a_job()) != registry.add_job(a_job())
    assert len(registry.jobs(unit=SUPPORT, metadata=None, after=None, limit=9).items) == 3


def test_the_same_job_id_is_stored_once(registry: Registry) -> None:
    job = queued(registry)
    with pytest.raises(Conflict):
        registry.add_job(job)


def test_jobs_come_in_pages_newest_first(registry: Registry) -> None:
    mine = []
    for _ in range(5):
        mine.append(queued(registry))
        registry.add_job(a_job(SALES))
    first = registry.jobs(unit=SUPPORT, metadata=None, after=None, limit=3)
    rest = registry.jobs(unit=SUPPORT, metadata=None, after=first.items[-1].id, limit=3)
    assert [*first.items, *rest.items] == mine[::-1]
    assert (first.has_more, rest.has_more) == (True, False)
    with pytest.raises(NotFound):
        registry.jobs(unit=SALES, metadata=None, after=mine[0].id, limit=3)


def test_jobs_are_found_by_every_pair_of_their_metadata(registry: Registry) -> None:
    both = registry.add_job(a_job(metadata={"team": "emea", 'a."b': "1"}))
    registry.add_job(a_job(metadata={"team": "emea"}))
    registry.add_job(a_job(metadata=None))
    found = registry.jobs(unit=None, metadata={"team": "emea", 'a."b': "1"}, after=None, limit=9)
    assert found.items == [both]


def test_jobs_of_a_status_come_oldest_first(registry: Registry) -> None:
    first, second = queued(registry), queued(registry)
    registry.add_job(a_job(status=JobStatus.VALIDATING_FILES))
    assert registry.jobs_in(JobStatus.QUEUED) == [first, second]


def test_a_trainer_claims_the_oldest_queued_job(registry: Registry) -> None:
    registry.add_job(a_job(status=JobStatus.VALIDATING_FILES))
    first, second = queued(registry), queued(registry)
    job = claimed(registry, now=10.0)
    assert (job.id, job.status, job.attempts, job.started_at) == (first.id, "running", 1, 10.0)
    assert job.lease is not None
    assert (job.lease.owner, job.lease.until) == ("trainer-1", 40.0)
    assert claimed(registry).id == second.id
    assert registry.claim_job(owner="t", now=10.0, lease_seconds=30.0) is None


def test_a_deserted_job_is_taken_over_under_a_higher_fence(registry: Registry) -> None:
    queued(registry)
    first = claimed(registry, now=10.0)
    assert registry.claim_job(owner="t", now=39.9, lease_seconds=30.0) is None
    second = claimed(registry, now=40.0, owner="trainer-2")
    assert fence_of(second) > fence_of(first)
    assert (second.attempts, second.started_at) == (2, 10.0)


def test_a_heartbeat_keeps_the_job(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry, now=10.0)
    registry.heartbeat(job.id, fence=fence_of(job), now=30.0, lease_seconds=30.0)
    assert registry.claim_job(owner="t", now=45.0, lease_seconds=30.0) is None


def test_a_clock_that_went_back_shortens_no_lease(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry, now=10.0)
    after = registry.heartbeat(job.id, fence=fence_of(job), now=-3600.0, lease_seconds=30.0)
    assert after.lease is not None
    assert after.lease.until == 40.0


def test_whoever_lost_the_lease_is_refused_everything(registry: Registry) -> None:
    zombie, version = trained(registry, now=10.0)
    holder = claimed(registry, now=100.0, owner="trainer-2")
    old = fence_of(zombie)
    with pytest.raises(LeaseLost):
        registry.heartbeat(zombie.id, fence=old, now=101.0, lease_seconds=30.0)
    with pytest.raises(LeaseLost):
        registry.update_job(zombie.id, fence=old, trained_tokens=1)
    with pytest.raises(LeaseLost):
        registry.move_job(zombie.id, JobStatus.SUCCEEDED, fence=old)
    with pytest.raises(LeaseLost):
        registry.publish_version(a_build(), job_id=zombie.id, fence=old, at=101.0)
    with pytest.raises(LeaseLost):
        registry.record_gates(version.id, [a_gate()], fence=old, evidence={})
    assert registry.job(zombie.id, unit=None) == holder
    assert registry.version_by_id(version.id) == version


def test_a_leased_job_is_not_moved_without_its_fence(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry)
    with pytest.raises(LeaseLost):
        registry.move_job(job.id, JobStatus.FAILED, fence=None)


def test_a_trainer_that_finished_can_do_no_more(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry)
    fence = fence_of(job)
    registry.move_job(job.id, JobStatus.SUCCEEDED, fence=fence, finished_at=20.0)
    with pytest.raises(LeaseLost):
        registry.move_job(job.id, JobStatus.FAILED, fence=fence)
    with pytest.raises(IllegalTransition):
        registry.move_job(job.id, JobStatus.FAILED, fence=None)


def test_a_move_changes_fields_and_drops_the_lease(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry)
    error = JobError(code="gate_failed", message="no gain", param=None)
    failed = registry.move_job(
        job.id, JobStatus.FAILED, fence=fence_of(job), finished_at=20.0, error=error
    )
    assert failed == registry.job(job.id, unit=None)
    assert (failed.status, failed.finished_at, failed.error) == ("failed", 20.0, error)
    assert failed.lease is None


def test_an_update_changes_what_it_names(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry)
    after = registry.update_job(
        job.id,
        fence=fence_of(job),
        resolved={"rank": 8},
        trained_tokens=5_000_000_000,
        result_files=(FileId("file-r"),),
        estimated_finish=99.5,
        fine_tuned_model="support:1",
    )
    assert after == registry.job(job.id, unit=None)
    assert (after.resolved, after.trained_tokens) == ({"rank": 8}, 5_000_000_000)
    assert after.result_files == ("file-r",)


@pytest.mark.parametrize("field", ["status", "lease", "attempts", "unit", "id", "nonsense"])
def test_a_jobs_identity_and_lease_are_not_changed_by_name(registry: Registry, field: str) -> None:
    queued(registry)
    job = claimed(registry)
    with pytest.raises(TypeError):
        registry.update_job(job.id, fence=fence_of(job), **{field: None})


@pytest.mark.parametrize("status", [JobStatus.VALIDATING_FILES, JobStatus.QUEUED, JobStatus.PAUSED])
def test_a_job_that_nobody_runs_is_cancelled_at_once(registry: Registry, status: JobStatus) -> None:
    job = registry.add_job(a_job(status=status))
    cancelled = registry.request_stop(job.id, StopRequest.CANCEL, at=7.0)
    assert (cancelled.status, cancelled.finished_at) == (JobStatus.CANCELLED, 7.0)


def test_a_running_job_is_told_to_stop_at_its_next_heartbeat(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry, now=10.0)
    asked = registry.request_stop(job.id, StopRequest.CANCEL, at=12.0)
    assert (asked.status, asked.stop_requested) == ("running", StopRequest.CANCEL)
    beat = registry.heartbeat(job.id, fence=fence_of(job), now=13.0, lease_seconds=30.0)
    assert beat.stop_requested is StopRequest.CANCEL
    stopped = registry.move_job(job.id, JobStatus.CANCELLED, fence=fence_of(job))
    assert stopped.stop_requested is None


@pytest.mark.parametrize("to", [s for s in JobStatus if s is not JobStatus.CANCELLED])
def test_a_job_that_is_being_cancelled_moves_to_its_end_only(
    registry: Registry, to: JobStatus
) -> None:
    queued(registry)
    job = claimed(registry, now=10.0)
    asked = registry.request_stop(job.id, StopRequest.CANCEL, at=12.0)
    with pytest.raises(LeaseLost):
        registry.move_job(job.id, to, fence=fence_of(job))
    with pytest.raises(LeaseLost):
        registry.update_job(job.id, fence=fence_of(job), fine_tuned_model="support:1")
    assert registry.job(job.id, unit=None) == asked
    ended = registry.move_job(job.id, JobStatus.CANCELLED, fence=fence_of(job), finished_at=13.0)
    assert (ended.status, ended.finished_at) == (JobStatus.CANCELLED, 13.0)


def test_an_acknowledged_cancel_publishes_and_proves_nothing(registry: Registry) -> None:
    judged_job, version = trained(registry, now=10.0)
    registry.request_stop(judged_job.id, StopRequest.CANCEL, at=12.0)
    with pytest.raises(LeaseLost):
        registry.record_gates(version.id, [a_gate()], fence=fence_of(judged_job), evidence={})
    queued(registry)
    job = claimed(registry, now=12.0)
    registry.request_stop(job.id, StopRequest.CANCEL, at=13.0)
    with pytest.raises(LeaseLost):
        registry.publish_version(a_build(), job_id=job.id, fence=fence_of(job), at=14.0)
    assert registry.version_of_job(job.id) is None
    assert registry.version_by_id(version.id) == version


def test_a_job_that_is_being_paused_may_still_finish(registry: Registry) -> None:
    job, version = trained(registry, now=10.0)
    registry.request_stop(job.id, StopRequest.PAUSE, at=12.0)
    registry.record_gates(version.id, [a_gate()], fence=fence_of(job), evidence={})
    assert registry.move_job(job.id, JobStatus.SUCCEEDED, fence=fence_of(job)).status == "succeeded"


def test_a_cancelled_job_puts_nothing_live_any_more(registry: Registry) -> None:
    job, version = trained(registry)
    registry.record_gates(version.id, [a_gate()], fence=fence_of(job), evidence={})
    begun = begin(registry, version, actor=job.id)
    before = registry.revision()
    registry.request_stop(job.id, StopRequest.CANCEL, at=20.0)
    ended = registry.rollout(begun.id)
    assert (ended.state, ended.finished_at) == (RolloutState.FAILED, 20.0)
    assert registry.revision() > before
    with pytest.raises(IllegalTransition):
        registry.complete_rollout(begun.id, at=21.0)
    with pytest.raises(Conflict) as refused:
        begin(registry, version, actor=job.id)
    assert refused.value.reason == "job_state"
    assert begin(registry, version, actor="key_1").state is RolloutState.LOADING


def test_a_cancel_is_not_softened_to_a_pause(registry: Registry) -> None:
    queued(registry)
    job = claimed(registry, now=10.0)
    registry.request_stop(job.id, StopRequest.PAUSE, at=11.0)
    registry.request_stop(job.id, StopRequest.CANCEL, at=12.0)
    with pytest.raises(IllegalTransition):
        registry.request_stop(job.id, StopRequest.PAUSE, at=13.0)
    assert registry.job(job.id, unit=None).stop_requested is StopRequest.CANCEL


def test_a_deserted_job_is_cancelled_at_once_and_its_trainer_hears_of_it(
    registry: Registry,
) -> None:
    queued(registry)
    job = claimed(registry, now=10.0)
    cancelled = registry.request_stop(job.id, StopRequest.CANCEL, at=100.0)
    assert cancelled.status is JobStatus.CANCELLED
    with pytest.raises(LeaseLost):
        registry.heartbeat(job.id, fence=fence_of(job), now=101.0, lease_seconds=30.0)


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED])
@pytest.mark.parametrize("stop", list(StopRequest))
def test_a_finished_job_cannot_be_stopped(
    registry: Registry, status: JobStatus, stop: StopRequest
) -> None:
    job = registry.add_job(a_job(status=status))
    with pytest.raises(IllegalTransition):
        registry.request_stop(job.id, stop, at=7.0)


def test_a_paused_job_is_resumed_under_a_higher_fence(registry: Registry) -> None:
    queued(registry)
    first = claimed(registry, now=10.0)
    registry.request_stop(first.id, StopRequest.PAUSE, at=11.0)
    paused = registry.move_job(first.id, JobStatus.PAUSED, fence=fence_of(first))
    assert (paused.lease, paused.stop_requested) == (None, None)
    with pytest.raises(IllegalTransition):
        registry.request_stop(first.id, StopRequest.PAUSE, at=12.0)
    assert registry.claim_job(owner="t", now=99.0, lease_seconds=30.0) is None
    assert registry.resume_job(first.id).status is JobStatus.QUEUED
    with pytest.raises(IllegalTransition):
        registry.resume_job(first.id)
    assert fence_of(claimed(registry, now=20.0)) > fence_of(first)


def test_events_are_ordered_and_come_in_pages_newest_first(registry: Registry) -> None:
    job, other = queued(registry), queued(registry)
    told = []
    for step in range(5):
        told.append(
            registry.add_event(
                job.id,
                at=float(step),
                level="info",
                type="metrics",
                message=f"step {step}",
                data={"step": step, "loss": 0.5},
            )
        )
        registry.add_event(other.id, at=0.0, level="warn", type="message", message="other")
    first = registry.events(job.id, after=None, limit=3)
    rest = registry.events(job.id, after=str(first.items[-1].id), limit=3)
    assert [*first.items, *rest.items] == told[::-1]
    assert (first.has_more, rest.has_more) == (True, False)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "٣", "9" * 30])
def test_text_that_is_no_number_is_no_cursor(registry: Registry, cursor: str) -> None:
    job = queued(registry)
    with pytest.raises(NotFound):
        registry.events(job.id, after=cursor, limit=3)
    with pytest.raises(NotFound):
        registry.checkpoints(job.id, after=cursor, limit=3)


def test_a_repeated_checkpoint_gives_the_first(registry: Registry) -> None:
    job, other = queued(registry), queued(registry)
    first = registry.add_checkpoint(job.id, at=1.0, step=10, metrics={"valid_loss": 0.5})
    assert registry.add_checkpoint(job.id, at=2.0, step=10, metrics={"valid_loss": 9.0}) == first
    second = registry.add_checkpoint(job.id, at=3.0, step=20, metrics={"valid_loss": 0.25})
    registry.add_checkpoint(other.id, at=3.0, step=10, metrics={})
    assert registry.checkpoints(job.id, after=None, limit=9).items == [second, first]
    after = registry.checkpoints(job.id, after=str(second.id), limit=9)
    assert (after.items, after.has_more) == ([first], False)


def test_nothing_is_told_of_an_unknown_job(registry: Registry) -> None:
    unknown = JobId("ftjob-unknown")
    with pytest.raises(NotFound):
        registry.add_event(unknown, at=1.0, level="info", type="message", message="x")
    with pytest.raises(NotFound):
        registry.add_checkpoint(unknown, at=1.0, step=1, metrics={})
    with pytest.raises(NotFound):
        registry.events(unknown, after=None, limit=1)
    with pytest.raises(NotFound):
        registry.checkpoints(unknown, after=None, limit=1)
    with pytest.raises(NotFound):
        registry.resume_job(unknown)
