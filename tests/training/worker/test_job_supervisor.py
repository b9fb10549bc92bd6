"""One leased job and its child: real processes that finish, hang, die and are killed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.jobs import Job, JobStatus, StopRequest
from adapters.domain.names import JobId
from adapters.domain.principals import SYSTEM
from adapters.errors import StorageFull, Unavailable
from tests.training.world import Troubled, World, alive, child_command, data, wait_until
from training.worker.job_supervisor import MAX_CLAIMS, Supervision, Wish, supervise, wanted_of
from training.worker.spare_process import Starter

pytestmark = pytest.mark.timeout(300)


def attending(
    world: World, mode: str, *, lease_seconds: float = 30.0, jobs: Any = None
) -> Supervision:
    return Supervision(
        jobs=jobs or world.registry.jobs,
        starter=Starter(child_command(world.state, mode), os.environ),
        lease_seconds=lease_seconds,
        stopping=threading.Event(),
    )


def during(act: Callable[[], None]) -> threading.Thread:
    """Does something while the test's main thread attends a job."""
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def pids(world: World, job_id: JobId) -> list[int]:
    return [int(line) for line in (world.state.job(job_id) / "started").read_text().split()]


def helper(world: World, job_id: JobId) -> Path:
    """Where a hanging child writes its helper's pid, once it hangs."""
    return world.state.job(job_id) / "helper"


def claimed(world: World, *, lease_seconds: float = 30.0) -> Job:
    world.add_queued_job(data())
    return world.claim(lease_seconds=lease_seconds)


def test_a_child_that_finishes_its_job_leaves_nothing_to_do(world: World) -> None:
    job = claimed(world)
    supervise(job, attending(world, "finish"))
    assert world.job(job.id).status is JobStatus.SUCCEEDED
    assert len(pids(world, job.id)) == 1


def test_a_child_killed_with_9_is_started_again_and_told(world: World) -> None:
    job = claimed(world)
    supervise(job, attending(world, "die-once"))
    assert world.job(job.id).status is JobStatus.SUCCEEDED
    assert len(pids(world, job.id)) == 2
    (told,) = world.messages(job.id)
    assert "was killed by SIGKILL" in told
    assert "attempt 1 of 3" in told


def test_a_child_that_dies_three_times_fails_the_job(world: World) -> None:
    job = claimed(world)
    supervise(job, attending(world, "die"))
    after = world.job(job.id)
    assert (after.status, len(pids(world, job.id))) == (JobStatus.FAILED, 3)
    assert after.error is not None
    assert after.error.code == "trainer_crashed"
    assert after.finished_at is not None


def test_a_job_that_kills_whole_trainers_fails_in_the_end(world: World) -> None:
    world.add_queued_job(data())
    for _ in range(MAX_CLAIMS):
        world.claim(lease_seconds=0.0)
    job = world.claim()
    supervise(job, attending(world, "finish"))
    error = world.job(job.id).error
    assert error is not None
    assert error.code == "trainer_crashed"


def test_cancelling_kills_the_child_and_its_helpers(world: World) -> None:
    job = claimed(world)

    def cancel() -> None:
        wait_until(helper(world, job.id).exists)
        world.registry.jobs.request_stop(job.id, StopRequest.CANCEL, SYSTEM)

    thread = during(cancel)
    supervise(job, attending(world, "hang"))
    thread.join()
    assert world.job(job.id).status is JobStatus.CANCELLED
    wait_until(lambda: not alive(int(helper(world, job.id).read_text())))
    assert not alive(pids(world, job.id)[0])
    assert world.messages(job.id)[-1] == "Fine-tuning job cancelled"


def test_pausing_asks_the_child_and_keeps_its_scratch(world: World) -> None:
    job = claimed(world)

    def pause() -> None:
        wait_until(helper(world, job.id).exists)
        world.registry.jobs.request_stop(job.id, StopRequest.PAUSE, SYSTEM)

    thread = during(pause)
    supervise(job, attending(world, "hang"))
    thread.join()
    assert world.job(job.id).status is JobStatus.PAUSED
    assert (world.state.job(job.id) / "asked").exists()
    world.registry.jobs.resume(job.id, SYSTEM)
    supervise(world.claim(), attending(world, "finish"))
    assert world.job(job.id).status is JobStatus.SUCCEEDED


def test_a_job_taken_over_by_another_trainer_is_let_go_untouched(world: World) -> None:
    job = claimed(world, lease_seconds=0.0)
    theirs: list[Job] = []
    # no heartbeat prolongs the lease before the other trainer has come
    deaf = Troubled(world.registry.jobs, "heartbeat", *[Unavailable("away")] * 1000)

    def take_over() -> None:
        wait_until(helper(world, job.id).exists)
        theirs.append(world.claim())
        deaf.errors.clear()

    thread = during(take_over)
    supervise(job, attending(world, "hang", jobs=deaf))
    thread.join()
    assert world.job(job.id) == theirs[0]
    assert world.messages(job.id) == []
    assert not alive(pids(world, job.id)[0])


def test_a_trainer_that_stops_leaves_its_job_to_be_taken_up_again(world: World) -> None:
    job = claimed(world)
    parts = attending(world, "hang")

    def stop() -> None:
        wait_until(helper(world, job.id).exists)
        parts.stopping.set()

    thread = during(stop)
    supervise(job, parts)
    thread.join()
    assert world.job(job.id).status is JobStatus.RUNNING
    assert not alive(pids(world, job.id)[0])
    assert world.messages(job.id) == []


def test_the_lease_is_kept_alive_while_the_child_works(world: World) -> None:
    world.add_queued_job(data())
    job = world.claim(lease_seconds=10.0)
    parts = attending(world, "hang", lease_seconds=10.0)
    assert job.lease is not None
    first = job.lease.until

    def prolonged() -> bool:
        lease = world.job(job.id).lease
        return lease is not None and lease.until > first + 2.0

    def watch() -> None:
        wait_until(helper(world, job.id).exists)
        wait_until(prolonged)
        parts.stopping.set()

    thread = during(watch)
    supervise(job, parts)
    thread.join()
    assert prolonged()
    lease = world.job(job.id).lease
    assert lease is not None
    assert lease.fence == 1


def test_a_registry_without_room_for_a_moment_costs_no_child(world: World) -> None:
    job = claimed(world)
    full = [StorageFull("there is no room left for the registry")] * 2
    troubled = Troubled(world.registry.jobs, "heartbeat", *full)
    supervise(job, attending(world, "finish", jobs=troubled))
    assert world.job(job.id).status is JobStatus.SUCCEEDED
    assert len(pids(world, job.id)) == 1


@pytest.mark.parametrize("trouble", [StorageFull("full"), Unavailable("away")])
def test_an_event_that_cannot_be_written_stops_nothing(world: World, trouble: Exception) -> None:
    job = claimed(world)
    troubled = Troubled(world.registry.jobs, "say", trouble)
    supervise(job, attending(world, "die-once", jobs=troubled))
    assert world.job(job.id).status is JobStatus.SUCCEEDED
    assert world.messages(job.id) == []


def test_a_child_refused_by_a_cancel_leaves_a_cancelled_job(world: World) -> None:
    job = claimed(world)
    world.registry.jobs.request_stop(job.id, StopRequest.CANCEL, SYSTEM)
    # no heartbeat tells of the wish: only the child's end does
    deaf = Troubled(world.registry.jobs, "heartbeat", *[Unavailable("away")] * 1000)
    supervise(job, attending(world, "refused", lease_seconds=60.0, jobs=deaf))
    after = world.job(job.id)
    assert (after.status, len(pids(world, job.id))) == (JobStatus.CANCELLED, 1)
    assert after.finished_at is not None
    assert world.messages(job.id) == ["Fine-tuning job cancelled"]


def test_a_trainer_that_stops_does_not_wait_for_a_pause(world: World) -> None:
    job = claimed(world)
    parts = attending(world, "stubborn")

    def pause_and_stop() -> None:
        wait_until(helper(world, job.id).exists)
        world.registry.jobs.request_stop(job.id, StopRequest.PAUSE, SYSTEM)
        wait_until((world.state.job(job.id) / "asked").exists)
        parts.stopping.set()

    thread = during(pause_and_stop)
    supervise(job, parts)  # the test's time limit is half of what a pause may take
    thread.join()
    assert world.job(job.id).status is JobStatus.PAUSED
    assert not alive(pids(world, job.id)[0])


@pytest.mark.parametrize(
    ("asked", "shutting_down", "wish"),
    [
        (None, False, Wish.GO_ON),
        (None, True, Wish.SHUT_DOWN),
        (StopRequest.PAUSE, False, Wish.PAUSE),
        (StopRequest.PAUSE, True, Wish.PAUSE),
        (StopRequest.CANCEL, True, Wish.CANCEL),
    ],
)
def test_what_the_owner_wants_comes_before_what_the_trainer_wants(
    world: World, asked: StopRequest | None, shutting_down: bool, wish: Wish
) -> None:
    job = claimed(world)
    if asked is not None:
        job = world.registry.jobs.request_stop(job.id, asked, SYSTEM)
    assert wanted_of(job, shutting_down=shutting_down) is wish
