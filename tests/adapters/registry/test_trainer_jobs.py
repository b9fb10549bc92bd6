"""What every registry does for trainers: the queue, the lease, a run, and being told to stop."""

from __future__ import annotations

import pytest

from adapters.domain.jobs import JobError, JobStatus, StopRequest
from adapters.domain.names import FileId
from adapters.domain.principals import SYSTEM, Principal, Role
from adapters.domain.routes import RolloutState
from adapters.errors import Conflict, IllegalTransition, LeaseLost
from adapters.registry import Registry
from adapters.registry.ports import Progress
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    LEASE_S,
    OWNER,
    SALES,
    SUPPORT,
    a_build,
    a_gate,
    claimed,
    created,
    fence_of,
    in_status,
    joined,
    load,
    promote,
    queued,
    running,
    trained,
)

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
    first = running(registry)
    clock.pass_by(LEASE_S - 0.1)
    assert registry.jobs.claim(owner="t", lease_seconds=LEASE_S) is None
    clock.pass_by(0.1)
    second = claimed(registry, owner="trainer-2")
    assert fence_of(second) > fence_of(first)
    assert (second.attempts, second.started_at) == (2, first.started_at)


def test_a_heartbeat_keeps_the_job(registry: Registry, clock: Clock) -> None:
    job = running(registry)
    clock.pass_by(20.0)
    registry.jobs.heartbeat(job.id, fence=fence_of(job), lease_seconds=LEASE_S)
    clock.pass_by(15.0)
    assert registry.jobs.claim(owner="t", lease_seconds=LEASE_S) is None


def test_a_clock_that_went_back_shortens_no_lease(registry: Registry, clock: Clock) -> None:
    job = running(registry)
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
    job = running(registry)
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
    job = running(registry)
    error = JobError(code="gate_failed", message="no gain", param=None)
    failed = registry.jobs.finish(job.id, JobStatus.FAILED, fence=fence_of(job), error=error)
    assert failed == registry.jobs.get(job.id, SYSTEM)
    assert (failed.status, failed.finished_at, failed.error) == ("failed", clock.now, error)


def test_a_trainer_that_finished_can_do_no_more(registry: Registry) -> None:
    job = running(registry)
    registry.jobs.finish(job.id, JobStatus.SUCCEEDED, fence=fence_of(job))
    with pytest.raises(LeaseLost):
        registry.jobs.finish(job.id, JobStatus.FAILED, fence=fence_of(job))


def test_progress_is_one_event_one_estimate_and_one_checkpoint(
    registry: Registry, clock: Clock
) -> None:
    job = running(registry)
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
    job = running(registry)
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
    job = running(registry)
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
    job = running(registry)
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
    job = running(registry)
    registry.jobs.request_stop(job.id, StopRequest.PAUSE, OWNER)
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    with pytest.raises(IllegalTransition):
        registry.jobs.request_stop(job.id, StopRequest.PAUSE, OWNER)
    assert registry.jobs.get(job.id, SYSTEM).stop_requested is StopRequest.CANCEL


def test_a_deserted_job_is_cancelled_at_once_and_its_trainer_hears_of_it(
    registry: Registry, clock: Clock
) -> None:
    job = running(registry)
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
    first = running(registry)
    registry.jobs.request_stop(first.id, StopRequest.PAUSE, OWNER)
    paused = registry.jobs.finish(first.id, JobStatus.PAUSED, fence=fence_of(first))
    assert (paused.lease, paused.stop_requested, paused.finished_at) == (None, None, None)
    assert registry.jobs.claim(owner="t", lease_seconds=LEASE_S) is None
    assert registry.jobs.resume(first.id, OWNER).status is JobStatus.QUEUED
    with pytest.raises(IllegalTransition):
        registry.jobs.resume(first.id, OWNER)
    assert fence_of(claimed(registry)) > fence_of(first)
