"""A job that asks for a dry run ends with the whole report, and nothing is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.domain.jobs import JobEvent, JobStatus, StopRequest
from adapters.domain.names import JobId
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import RecipeOverrides
from adapters.domain.units import load_units
from adapters.errors import Unavailable
from adapters.store import ArtifactKind
from tests.training.job.stage import ToyRenderer, stage
from tests.training.world import OWNER, Troubled, World, data
from training.job.dry_run import Bench, dry_run
from training.job.pipeline import run_job


def bench(world: World, *, run_before: bool = False) -> Bench:
    at = stage(world, world.add_queued_job(data(100)))
    if run_before:
        run_job(at.context, at.job_id, at.fence)
    base = at.context.base
    return Bench(
        registry=world.registry,
        store=world.store,
        units=load_units(world.units),
        base=base,
        renderer=ToyRenderer(),
        workdir=world.state.root / "check",
    )


def report_of(world: World, job_id: JobId) -> JobEvent:
    page = world.registry.jobs.events(job_id, OWNER, after=None, limit=100)
    (report,) = [event for event in page.items if event.type == "data_report"]
    return report


def test_files_that_can_be_trained_on_end_with_what_to_expect(world: World) -> None:
    at = bench(world)
    recipe = RecipeOverrides(n_epochs=2.0, batch_size=4)
    job_id = world.add_job(data(100), dry_run=True, recipe=recipe)
    dry_run(replace(at, price=2.0), world.job(job_id))
    job = world.job(job_id)
    assert (job.status, job.fine_tuned_model, job.error) == (JobStatus.SUCCEEDED, None, None)
    assert job.finished_at is not None
    report = report_of(world, job_id)
    assert report.data is not None
    assert (report.level, report.data["usable"], report.data["problems"]) == ("info", True, [])
    train = report.data["dataset"]["counts"]["train"]
    expected = report.data["expected"]
    assert expected["steps"] == -(-train * 2 // 4)
    assert expected["cost"] == pytest.approx(expected["tokens"] * 2.0 / 1e6, abs=1e-6)
    assert expected["seconds"] is None, "no job has run here yet"
    assert any(message.startswith("expect: at most ") for message in world.messages(job_id))
    assert not at.workdir.exists()
    assert not world.published()


def test_every_problem_of_both_files_is_told_and_the_job_fails(world: World) -> None:
    at = bench(world)
    training = data(30) + b"{}\nnonsense\n"
    job_id = world.add_job(training, data(20, start=100) + b"[]\n", dry_run=True)
    dry_run(at, world.job(job_id))
    job = world.job(job_id)
    assert job.error is not None
    assert (job.status, job.error.param) == (JobStatus.FAILED, "training_file")
    assert job.error.code == "invalid_training_file"
    report = report_of(world, job_id)
    assert report.data is not None
    told = {(each["param"], each["line"]) for each in report.data["problems"]}
    assert told >= {("training_file", 31), ("training_file", 32), ("validation_file", 21)}
    assert report.data["problem_count"] == len(report.data["problems"])
    assert report.level == "error"


def test_a_file_that_is_gone_is_told(world: World) -> None:
    at = bench(world)
    gone = world.add_job(data(), dry_run=True)
    file = world.registry.files.get(world.job(gone).training_file, SYSTEM)
    world.store.delete(file.digest, ArtifactKind.FILE)
    dry_run(at, world.job(gone))
    error = world.job(gone).error
    assert error is not None
    assert "upload it again" in error.message


def test_time_is_told_once_a_job_has_run_here(world: World) -> None:
    at = bench(world, run_before=True)
    job_id = world.add_job(data(100), dry_run=True)
    dry_run(at, world.job(job_id))
    report = report_of(world, job_id)
    assert report.data is not None
    assert report.data["expected"]["seconds"] > 0


def test_a_dry_run_that_was_cancelled_meanwhile_stays_so(world: World) -> None:
    at = bench(world)
    job_id = world.add_job(data(), dry_run=True)
    before = world.job(job_id)
    world.registry.jobs.request_stop(job_id, StopRequest.CANCEL, OWNER)
    dry_run(at, before)
    assert world.job(job_id).status is JobStatus.CANCELLED


def test_a_registry_that_cannot_be_asked_says_nothing_of_the_files(world: World) -> None:
    at = bench(world)
    job_id = world.add_job(data(), dry_run=True)
    troubled = Troubled(world.registry.files, "get", Unavailable("away"))
    registry = replace(world.registry, files=troubled)
    with pytest.raises(Unavailable):
        dry_run(replace(at, registry=registry), world.job(job_id))
    assert world.job(job_id).status is JobStatus.VALIDATING_FILES
