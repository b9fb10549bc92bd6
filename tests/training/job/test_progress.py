"""What a run tells while it goes."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from adapters.domain.jobs import JobStatus
from adapters.domain.principals import SYSTEM
from adapters.errors import LeaseLost, StorageFull, Unavailable
from tests.training.job.stage import DEVICE
from tests.training.world import Troubled, World, data
from training.finetune.device_plan import Estimate
from training.finetune.port import Measures
from training.job.progress import Pending, Reporter, in_advance
from training.job.result_files import result_csv


def measures(step: int, valid_loss: float | None = None) -> Measures:
    return Measures(
        step=step, total_steps=100, train_loss=0.5, train_accuracy=0.75, valid_loss=valid_loss
    )


@pytest.fixture
def reporter(world: World) -> Reporter:
    world.add_queued_job(data())
    job = world.claim(lease_seconds=0.0)
    return Reporter(world.registry.jobs, job.id, job.attempts)


def tell(reporter: Reporter, *told: Measures) -> None:
    with reporter.steps() as step:
        for each in told:
            step(each)


def steps(reporter: Reporter) -> list[int]:
    return [point["step"] for point in reporter.curve()]


def test_training_loss_gives_way_to_newer_measures_and_an_evaluation_never_does() -> None:
    pending = Pending()
    for step, valid_loss in ((1, None), (2, None), (3, 0.4), (4, None), (5, 0.3), (6, None)):
        pending.put(measures(step, valid_loss))
    left = iter(pending.next, None)
    assert [each.step for each in left] == [3, 5, 6]


def test_all_that_is_pending_is_told_when_training_ends(reporter: Reporter) -> None:
    tell(reporter, *(measures(step, 0.4 if step == 3 else None) for step in range(1, 8)))
    assert steps(reporter) == [3, 7]


def test_the_last_state_is_told_of_a_run_that_fails(reporter: Reporter) -> None:
    def fail() -> None:
        with reporter.steps() as step:
            step(measures(8))
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert steps(reporter) == [8]


def test_what_was_measured_before_training_is_no_step(reporter: Reporter) -> None:
    tell(reporter, measures(0, 3.0), measures(1))
    assert steps(reporter) == [1]


def test_an_event_tells_the_pace_and_a_checkpoint_only_what_openais_has(
    world: World, reporter: Reporter
) -> None:
    running = replace(
        measures(3, 0.4), tokens=900, seconds=3.0, seconds_left=7.5, memory_bytes=1 << 30
    )
    tell(reporter, running)
    (told,) = reporter.curve()
    pace = {"seconds": 3.0, "tokens_per_second": 300.0, "seconds_left": 7.5}
    assert told == running.as_data() | pace | {"memory_bytes": 1 << 30}
    (job,) = world.registry.jobs.in_status(JobStatus.RUNNING)
    (kept,) = world.registry.jobs.checkpoints(job.id, SYSTEM, after=None, limit=2).items
    assert not pace.keys() & kept.metrics.keys()


def test_time_left_becomes_the_estimated_finish(world: World, reporter: Reporter) -> None:
    before = time.time()
    tell(reporter, replace(measures(1), seconds_left=90.0))
    (job,) = world.registry.jobs.in_status(JobStatus.RUNNING)
    assert job.estimated_finish is not None
    assert before + 89.0 < job.estimated_finish < time.time() + 91.0


class Counted:
    """The port of jobs; remembers calls, and which thread made them. It may hang."""

    def __init__(self, world: World) -> None:
        self._jobs = world.registry.jobs
        self.calls, self.threads = list[str](), set[str]()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        self.threads.add(threading.current_thread().name)
        assert self.may_go_on.wait(60.0)
        return getattr(self._jobs, name)


def test_a_step_is_one_call_of_the_registry(world: World) -> None:
    world.add_queued_job(data())
    job = world.claim()
    counted = Counted(world)
    tell(Reporter(counted, job.id, job.attempts), measures(1))
    assert counted.calls == ["events", "report_progress"]


def test_a_step_never_waits_for_the_registry(world: World) -> None:
    world.add_queued_job(data())
    job = world.claim()
    hanging = Counted(world)
    with Reporter(hanging, job.id, job.attempts, every=0.0).steps() as step:
        hanging.may_go_on.clear()
        hanging.threads.clear()
        for at in range(1, 50):
            step(measures(at))
        hanging.may_go_on.set()
    assert "MainThread" not in hanging.threads
    assert world.registry.jobs.events(job.id, SYSTEM, after=None, limit=1).items[0].data == (
        measures(49).as_data()
    )


def test_a_step_under_an_old_fence_ends_the_run(world: World, reporter: Reporter) -> None:
    world.claim()
    with pytest.raises(LeaseLost):
        tell(reporter, measures(1))


def test_a_lease_that_was_lost_ends_a_run_in_the_middle(world: World) -> None:
    world.add_queued_job(data())
    job = world.claim(lease_seconds=0.0)
    reporter = Reporter(world.registry.jobs, job.id, job.attempts, every=0.01)
    world.claim()
    until = time.monotonic() + 60.0

    def train() -> None:
        with reporter.steps() as step:
            while time.monotonic() < until:
                step(measures(1))

    with pytest.raises(LeaseLost):
        train()
    assert time.monotonic() < until


@pytest.mark.parametrize("trouble", [StorageFull("full"), Unavailable("away")])
@pytest.mark.parametrize("name", ["say", "report_progress"])
def test_what_the_registry_cannot_take_now_does_not_end_the_run(
    world: World, name: str, trouble: Exception
) -> None:
    world.add_queued_job(data())
    job = world.claim()
    troubled = Troubled(world.registry.jobs, name, trouble)
    reporter = Reporter(troubled, job.id, job.attempts)
    tell(reporter, measures(5, 0.4))
    reporter.say("hello")
    tell(reporter, measures(6, 0.3))
    assert steps(reporter)[-1] == 6


def test_verdicts_are_told_once(world: World, reporter: Reporter) -> None:
    for _ in range(2):
        reporter.gate_checks("Gates of support:1", {"gates": []}, passed=True)
    (job,) = world.registry.jobs.in_status(JobStatus.RUNNING)
    assert world.messages(job.id) == ["Gates of support:1"]


def test_a_resumed_run_tells_no_evaluation_twice(world: World, reporter: Reporter) -> None:
    tell(reporter, measures(5, 0.4))
    tell(reporter, measures(5, 0.4), measures(7, 0.3))
    assert steps(reporter) == [5, 7]
    (job,) = world.registry.jobs.in_status(JobStatus.RUNNING)
    assert world.messages(job.id).count("Checkpoint created at step 5") == 1


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "about 1 s"), (90.0, "about 90 s"), (300.0, "about 5 min")]
)
def test_what_a_run_takes_is_told_in_words(seconds: float, said: str) -> None:
    words = in_advance(DEVICE, Estimate(steps=3, tokens=4000, seconds=seconds))
    assert words.startswith("Training for 3 steps over 4,000 tokens")
    assert words.endswith(f": {said} at the speed of this moment")


def test_a_plan_that_had_to_be_smaller_is_told() -> None:
    assert in_advance(DEVICE, None).startswith("Memory ran out; training goes on by 2 threads")


def test_the_result_file_leaves_empty_what_was_not_measured() -> None:
    evaluated = replace(measures(2, 0.25), valid_accuracy=0.5)
    curve = [measures(1).as_data(), evaluated.as_data()]
    assert result_csv(curve).decode().splitlines() == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,0.5,0.75,,",
        "2,0.5,0.75,0.25,0.5",
    ]
