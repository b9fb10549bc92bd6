"""A job that asks for a dry run ends with the whole report, and nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from adapters.domain.jobs import JobEvent, JobStatus, StopRequest
from adapters.domain.names import Digest, JobId
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import RecipeOverrides
from adapters.domain.units import load_units
from adapters.errors import NotFound, Unavailable
from adapters.registry.ports import Replica
from adapters.store import ArtifactKind
from tests.training.job.stage import ToyRenderer, stage
from tests.training.job.test_starting_point import ALIKE
from tests.training.world import OWNER, Troubled, World, data, jsonl, write_unit
from training.data.examples import Message
from training.job.dry_run import Bench, dry_run
from training.job.pipeline import run_job


def bench(world: World, *, run_before: bool = False) -> Bench:
    """With `run_before`, `support:1` is there and live."""
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


class NobodyReports:
    """A registry's replicas where none was heard."""

    def list(self) -> list[Replica]:
        return []


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


def test_what_is_too_long_is_told_of_both_files(world: World) -> None:
    at = bench(world)
    long = jsonl([("word " * 300, "answer")])
    job_id = world.add_job(data(30) + long, data(20, start=100) + long, dry_run=True)
    dry_run(at, world.job(job_id))
    report = report_of(world, job_id)
    assert report.data is not None
    told = {(each["param"], each["line"]) for each in report.data["problems"]}
    assert told == {("training_file", 31), ("validation_file", 21)}


def test_a_line_that_no_later_stage_would_take_is_told_beside_one_that_cannot_be_read(
    world: World,
) -> None:
    at = replace(bench(world), renderer=ToyRenderer(refused="question 7"))
    long = jsonl([("word " * 300, "answer")])
    job_id = world.add_job(data(30) + b"{}\n" + long, data(20, start=100) + long, dry_run=True)
    dry_run(at, world.job(job_id))
    report = report_of(world, job_id)
    assert report.data is not None
    told = {(each["param"], each["line"]): each["what"] for each in report.data["problems"]}
    assert sorted(told) == [
        ("training_file", 8), ("training_file", 31), ("training_file", 32), ("validation_file", 21)
    ]  # fmt: skip
    assert "chat template" in told["training_file", 8]
    assert "longer than the" in told["training_file", 32]


class PiecesRenderer(ToyRenderer):
    """Every four letters are a token, so that one name may have more of them than another."""

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        words = " ".join(message.content for message in messages).split()
        return [at for word in words for at in range(0, len(word), 4)]


@pytest.mark.parametrize("other", [b"", b"{}\n", jsonl([("wide " * 300, "answer")])])
def test_a_line_that_is_too_long_about_somebody_else_is_told_whatever_other_lines_are(
    world: World, other: bytes
) -> None:
    write_unit(world.units, recipe={"augment": True})
    at = replace(bench(world), renderer=PiecesRenderer())
    trains, measures = jsonl([("Mei " * 150, "answer")]), jsonl([("Wei " * 150, "answer")])
    training, validation = data(30) + trains + other, data(24, start=100) + measures
    job_id = world.add_job(training, validation, dry_run=True)
    told = {(param, line): what for param, line, what in problems_of(world, at, job_id)}
    also = {("training_file", 32)} if other else set[tuple[str, int]]()
    assert told.keys() == {("training_file", 31), *also}, "what measures is not varied"
    assert "302 tokens, longer than the 256 tokens allowed" in told["training_file", 31]


def test_every_line_that_the_chat_template_refuses_is_told(world: World) -> None:
    at = replace(bench(world), renderer=ToyRenderer(refused="question 7"))
    job_id = world.add_job(data(60) + data(1, start=7) * 2, dry_run=True)
    dry_run(at, world.job(job_id))
    report = report_of(world, job_id)
    assert report.data is not None
    assert [each["line"] for each in report.data["problems"]] == [8, 61, 62]


def test_a_file_that_is_gone_is_told(world: World) -> None:
    at = bench(world)
    gone = world.add_job(data(), dry_run=True)
    file = world.registry.files.get(world.job(gone).training_file, SYSTEM)
    world.store.delete(file.digest, ArtifactKind.FILE)
    dry_run(at, world.job(gone))
    error = world.job(gone).error
    assert error is not None
    assert "upload it again" in error.message


def expected_by(world: World, at: Bench) -> tuple[dict[str, Any], str]:
    """What a dry run expects, and its line for people."""
    job_id = world.add_job(data(100), dry_run=True)
    dry_run(at, world.job(job_id))
    report = report_of(world, job_id)
    assert report.data is not None
    said = world.registry.jobs.events(job_id, OWNER, after=None, limit=100).items
    (line,) = [event.message for event in said if event.message.startswith("expect: ")]
    return report.data["expected"], line


def test_time_is_told_as_earlier_jobs_took_it(world: World) -> None:
    expected, line = expected_by(world, bench(world, run_before=True))
    assert expected["seconds"] > 0
    assert (expected["guessed"], "guess" in line) == (False, False)


def test_before_the_first_job_time_is_guessed_by_the_machine_and_said_to_be(world: World) -> None:
    at = replace(bench(world), products_per_second=lambda: 1e6)
    expected, line = expected_by(world, at)
    weights = 8 * 8
    assert expected["seconds"] == pytest.approx(expected["tokens"] * 4 * weights / 0.5e6)
    assert (expected["guessed"], "a guess by this machine's speed" in line) == (True, True)


def test_before_the_first_job_on_a_gpu_no_time_is_told(world: World) -> None:
    expected, line = expected_by(world, bench(world))
    assert (expected["seconds"], expected["guessed"]) == (None, False)
    assert line.endswith("how long that takes is known once a job has trained this base here")


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


def problems_of(world: World, at: Bench, job_id: JobId) -> list[tuple[str, int | None, str]]:
    """Each as (parameter, line, what); the job must have failed."""
    dry_run(at, world.job(job_id))
    assert world.job(job_id).status is JobStatus.FAILED
    report = report_of(world, job_id)
    assert report.data is not None
    assert report.data["problem_count"] == len(report.data["problems"])
    return [(each["param"], each["line"], each["what"]) for each in report.data["problems"]]


def test_a_version_that_can_be_trained_further_is_no_problem(world: World) -> None:
    write_unit(world.units, recipe=ALIKE)
    at = bench(world, run_before=True)
    job_id = world.add_job(data(100), model="support:1", dry_run=True)
    dry_run(at, world.job(job_id))
    assert world.job(job_id).status is JobStatus.SUCCEEDED, world.job(job_id).error


def test_a_version_of_another_rank_is_told_together_with_the_files_problems(world: World) -> None:
    write_unit(world.units, recipe=ALIKE)
    at = bench(world, run_before=True)
    recipe = RecipeOverrides(rank=8)
    job_id = world.add_job(data(30) + b"{}\n", model="support:1", dry_run=True, recipe=recipe)
    told = problems_of(world, at, job_id)
    assert [(param, line) for param, line, _ in told] == [("model", None), ("training_file", 31)]
    assert told[0][2].startswith("training cannot begin with support:1: its rank is 4 and the ")
    error = world.job(job_id).error
    assert error is not None
    assert (error.code, error.param) == ("invalid_recipe", "model")
    assert error.message.endswith("; 2 problems in all")


def test_a_version_of_another_base_is_a_problem(world: World) -> None:
    write_unit(world.units, recipe=ALIKE)
    at = bench(world, run_before=True)
    other = replace(at.base, fingerprint=Digest("c" * 64))
    job_id = world.add_job(data(100), model="support:1", dry_run=True)
    told = problems_of(world, replace(at, base=other), job_id)
    assert any("belongs to another base model" in what for _, _, what in told)
    assert any("the service runs another base model" in what for _, _, what in told)


def test_what_the_service_or_the_base_cannot_have_is_told_with_the_rest(world: World) -> None:
    at = bench(world)
    recipe = RecipeOverrides(rank=128, target_modules=("lm_tail",), start="support:9")
    job_id = world.add_job(b"nonsense\n", dry_run=True, recipe=recipe)
    told = problems_of(world, at, job_id)
    params = [param for param, _, _ in told]
    assert params[:3] == ["target_modules", "start", "recipe"]
    assert "training_file" in params[3:]


def test_a_file_that_is_gone_hides_no_other_problem(world: World) -> None:
    at = bench(world)
    job_id = world.add_job(data(), dry_run=True, recipe=RecipeOverrides(start="support:9"))
    files = Troubled(world.registry.files, "get", NotFound("gone"))
    registry = replace(world.registry, files=cast(Any, files))
    told = problems_of(world, replace(at, registry=registry), job_id)
    assert [param for param, _, _ in told] == ["start", "training_file"]


def test_without_a_replica_the_files_are_checked_all_the_same(world: World) -> None:
    at = bench(world)
    away = replace(world.registry, replicas=cast(Any, NobodyReports()))
    job_id = world.add_job(data(100), dry_run=True, recipe=RecipeOverrides(rank=512))
    dry_run(replace(at, registry=away), world.job(job_id))
    assert world.job(job_id).status is JobStatus.SUCCEEDED
