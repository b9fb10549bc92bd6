"""Checkpoints of a job through the real openai SDK: each name that is listed answers."""

from __future__ import annotations

import time

import openai
import pytest

from adapters.domain.jobs import Job, JobStatus
from adapters.domain.principals import SYSTEM
from adapters.domain.versions import Version
from adapters.registry.ports import Progress
from tests.service.world import World
from tests.simulation.engine import BASE

LINE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


def running_job(world: World, *steps: int) -> Job:
    """One that has measured at these steps."""
    client, jobs = world.client(), world.runtime.registry.jobs
    file = client.files.create(file=("train.jsonl", LINE * 12), purpose="fine-tune")
    asked = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    jobs.accept(asked.id, error=None)
    job = jobs.claim(owner="trainer", lease_seconds=600)
    assert job is not None
    assert job.lease is not None
    for step in steps:
        measures = {"valid_loss": 1.0 / step, "train_loss": 0.5}
        progress = Progress(
            seconds_left=1.0, message=f"Step {step}", data={"step": step}, checkpoint=measures
        )
        jobs.report_progress(job.id, progress, fence=job.lease.fence)
    return job


def publish(world: World, job: Job, *, best_step: int) -> Version:
    return world.publish("support", job=job, evidence={"training": {"best_step": best_step}})


def names(world: World, job: Job) -> dict[int, str | None]:
    """Step → the name of its checkpoint."""
    points = world.client().fine_tuning.jobs.checkpoints.list(job.id)
    return {point.step_number: point.fine_tuned_model_checkpoint for point in points}


def test_a_checkpoint_that_was_kept_answers_under_its_name_and_no_other_has_one(
    world: World,
) -> None:
    job = running_job(world, 10, 20, 30)
    assert names(world, job) == {10: None, 20: None, 30: None}, "it is not published yet"
    version = publish(world, job, best_step=20)
    assert job.lease is not None
    world.runtime.registry.jobs.finish(
        job.id, JobStatus.SUCCEEDED, fence=job.lease.fence, fine_tuned_model=version.name
    )
    listed = names(world, job)
    assert listed == {10: None, 20: version.name, 30: None}
    name = listed[20]
    assert answer_of(world, name) == name


def answer_of(world: World, name: str | None) -> str:
    client, deadline = world.client(), time.monotonic() + 20
    while True:
        try:
            answer = client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": "hello"}]
            )
        except openai.NotFoundError:  # this replica has not heard of it yet
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            model: str = answer.model
            return model


def test_a_checkpoint_of_a_version_that_is_not_served_has_no_name(world: World) -> None:
    job = running_job(world, 10)
    version = publish(world, job, best_step=10)
    assert names(world, job) == {10: version.name}
    world.runtime.registry.versions.retire(version.id, SYSTEM, aliases=[])
    assert names(world, job) == {10: None}
    with pytest.raises(openai.NotFoundError):
        world.client().models.retrieve(version.name)


def test_checkpoints_of_another_units_job_are_not_there(world: World) -> None:
    job = running_job(world, 10)
    publish(world, job, best_step=10)
    with pytest.raises(openai.NotFoundError):
        list(world.client("hr").fine_tuning.jobs.checkpoints.list(job.id))
