"""What a run tells while it goes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from adapters.domain.jobs import JobStatus
from adapters.errors import LeaseLost, StorageFull, Unavailable
from tests.training.world import Troubled, World, data
from training.finetune.port import Measures
from training.job.progress import Reporter
from training.job.result_files import result_csv


def measures(step: int, valid_loss: float | None = None) -> Measures:
    return Measures(
        step=step, total_steps=100, train_loss=0.5, train_accuracy=0.75, valid_loss=valid_loss
    )


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def reporter(world: World, clock: list[float]) -> Reporter:
    world.add_queued_job(data())
    job = world.claim(lease_seconds=0.0)
    return Reporter(world.registry.jobs, job.id, job.attempts, clock=lambda: clock[0])


def told(reporter: Reporter) -> list[int]:
    return [point["step"] for point in reporter.curve()]


def test_steps_are_told_once_a_second_at_most(reporter: Reporter, clock: list[float]) -> None:
    for step in range(1, 31):
        reporter.step(measures(step), seconds_left=9.0)
        clock[0] += 0.25
    assert told(reporter) == [1, 5, 9, 13, 17, 21, 25, 29]


def test_evaluations_and_the_last_step_are_always_told(reporter: Reporter) -> None:
    for step, valid_loss in ((1, None), (2, None), (3, 0.4), (4, None), (100, None)):
        reporter.step(measures(step, valid_loss), seconds_left=9.0)
    assert told(reporter) == [1, 3, 100]


def test_time_left_becomes_the_estimated_finish(world: World, reporter: Reporter) -> None:
    before = time.time()
    reporter.step(measures(1), seconds_left=90.0)
    (job,) = world.registry.jobs.in_status(JobStatus.RUNNING)
    assert job.estimated_finish is not None
    assert before + 89.0 < job.estimated_finish < time.time() + 91.0


class Counted:
    """The port of jobs, and the names of what was called."""

    def __init__(self, world: World) -> None:
        self._jobs, self.calls = world.registry.jobs, list[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._jobs, name)


def test_a_step_is_one_call_of_the_registry(world: World) -> None:
    world.add_queued_job(data())
    job = world.claim()
    counted = Counted(world)
    Reporter(counted, job.id, job.attempts).step(measures(1), seconds_left=1.0)
    assert counted.calls == ["report_progress"]


def test_a_step_under_an_old_fence_ends_the_run(world: World, reporter: Reporter) -> None:
    world.claim()
    with pytest.raises(LeaseLost):
        reporter.step(measures(1), seconds_left=1.0)


@pytest.mark.parametrize("trouble", [StorageFull("full"), Unavailable("away")])
@pytest.mark.parametrize("name", ["say", "report_progress"])
def test_what_the_registry_cannot_take_now_does_not_end_the_run(
    world: World, name: str, trouble: Exception
) -> None:
    world.add_queued_job(data())
    job = world.claim()
    troubled = Troubled(world.registry.jobs, name, trouble)
    reporter = Reporter(troubled, job.id, job.attempts, clock=lambda: 1.0)
    reporter.step(measures(5, 0.4), seconds_left=1.0)
    reporter.say("hello")
    reporter.step(measures(6, 0.3), seconds_left=1.0)
    assert told(reporter)[-1] == 6


def test_verdicts_are_told_once(world: World, reporter: Reporter) -> None:
    for _ in range(2):
        reporter.gate_checks("Gates of support:1", {"gates": []}, passed=True)
    (job,) = world.registry.jobs.in_status(JobStatus.RUNNING)
    assert world.messages(job.id) == ["Gates of support:1"]


def test_a_resumed_run_tells_a_step_once_in_the_curve(reporter: Reporter) -> None:
    reporter.step(measures(5, 0.4), seconds_left=1.0)
    reporter.step(measures(5, 0.4), seconds_left=1.0)
    assert told(reporter) == [5]


def test_the_result_file_leaves_empty_what_was_not_measured() -> None:
    evaluated = replace(measures(2, 0.25), valid_accuracy=0.5)
    curve = [measures(1).as_data(), evaluated.as_data()]
    assert result_csv(curve).decode().splitlines() == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,0.5,0.75,,",
        "2,0.5,0.75,0.25,0.5",
    ]
