"""What becomes of a job in `validating_files`."""

from __future__ import annotations

import pytest

from adapters.domain.jobs import Job, JobStatus, StopRequest
from adapters.domain.names import JobId
from adapters.domain.principals import SYSTEM
from adapters.domain.units import load_units
from adapters.store import ArtifactKind
from tests.training.world import World, data
from training.worker.job_validator import validate_job


def validate(world: World, job: JobId | Job) -> None:
    found = job if isinstance(job, Job) else world.job(job)
    validate_job(
        found,
        registry=world.registry,
        store=world.store,
        units=load_units(world.units),
        workdir=world.state.job(found.id),
    )


def test_good_files_move_the_job_to_queued(world: World) -> None:
    job_id = world.add_job(data(), data(24, start=100))
    validate(world, job_id)
    assert world.job(job_id).status is JobStatus.QUEUED
    started, done = world.messages(job_id)
    assert started.startswith("Validating training file: file-")
    assert done == "Files validated, moving job to queued state"


def test_a_bad_training_file_fails_the_job_and_says_which_line(world: World) -> None:
    job_id = world.add_job(data(12) + b"{}\n")
    validate(world, job_id)
    job = world.job(job_id)
    assert job.status is JobStatus.FAILED
    assert job.finished_at is not None
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert job.error.message.startswith("Training file: line 13: has no `messages`")
    assert world.messages(job_id)[-1] == job.error.message


def test_a_bad_validation_file_fails_the_job_under_its_own_name(world: World) -> None:
    job_id = world.add_job(data(), b"")
    validate(world, job_id)
    error = world.job(job_id).error
    assert error is not None
    assert (error.code, error.param) == ("invalid_validation_file", "validation_file")


@pytest.mark.parametrize(
    ("training", "validation", "param", "said"),
    [
        (data(33), None, "training_file", "add examples, or give a validation file"),
        (data(5) * 4, data(24, start=100), "training_file", "has 5 different examples"),
        (data(20), data(23, start=100), "validation_file", "at least 16 and 8 are needed"),
        (data(40), data(40), "validation_file", "asks the same as the training file"),
    ],
)
def test_a_split_that_cannot_work_is_refused_before_a_trainer_starts(
    world: World, training: bytes, validation: bytes | None, param: str, said: str
) -> None:
    job_id = world.add_job(training, validation)
    validate(world, job_id)
    error = world.job(job_id).error
    assert error is not None
    assert (error.code, error.param) == (f"invalid_{param}", param)
    assert said in error.message


def test_a_unit_that_is_not_configured_any_more_fails_the_job(world: World) -> None:
    job_id = world.add_job(data())
    (world.units / "support.yaml").write_text("unit: other\naliases: [other]\n")
    validate(world, job_id)
    error = world.job(job_id).error
    assert error is not None
    assert error.code == "unit_not_found"


def test_bytes_that_are_gone_from_the_store_fail_the_job_with_advice(world: World) -> None:
    job_id = world.add_job(data())
    file = world.registry.files.get(world.job(job_id).training_file, SYSTEM)
    world.store.delete(file.digest, ArtifactKind.FILE)
    validate(world, job_id)
    error = world.job(job_id).error
    assert error is not None
    assert "upload it again" in error.message


def test_a_job_cancelled_while_it_is_checked_stays_cancelled(world: World) -> None:
    job_id = world.add_job(data())
    before = world.job(job_id)
    world.registry.jobs.request_stop(job_id, StopRequest.CANCEL, SYSTEM)
    validate(world, before)
    assert world.job(job_id).status is JobStatus.CANCELLED
