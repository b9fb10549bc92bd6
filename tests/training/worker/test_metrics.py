"""What a trainer tells Prometheus of its running jobs."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from adapters.domain.jobs import JobError, JobStatus
from adapters.domain.names import JobId
from adapters.errors import Unavailable
from tests.training.world import Troubled, World, data, wait_until
from training.finetune.port import Measures
from training.job.progress import Reporter
from training.job.progress_file import NAME, write_progress
from training.worker.metrics import ENDED, TrainingMetrics

LABELS = {"unit": "support", "adapter": "support"}
MEASURES = Measures(
    step=40,
    total_steps=100,
    train_loss=0.5,
    train_accuracy=0.75,
    valid_loss=0.7,
    tokens=6000,
    seconds=30.0,
    seconds_left=45.0,
    memory_bytes=1 << 30,
)


@pytest.fixture
def running(world: World) -> World:
    """A world in which a job has told how far it is."""
    job_id = world.add_queued_job(data())
    world.claim()
    scratch = world.state.job(job_id)
    scratch.mkdir(parents=True)
    write_progress(scratch, MEASURES)
    return world


def scraped(world: World, jobs: object = None) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(TrainingMetrics(jobs or world.registry.jobs, world.state))  # type: ignore[arg-type]
    return registry


@pytest.mark.parametrize(
    ("name", "more", "value"),
    [
        ("steps", {}, 40.0),
        ("steps_planned", {}, 100.0),
        ("loss", {"part": "train"}, 0.5),
        ("loss", {"part": "validation"}, 0.7),
        ("tokens_per_second", {}, 200.0),
        ("memory_bytes", {}, float(1 << 30)),
        ("seconds_left", {}, 45.0),
    ],
)
def test_a_running_job_is_told(
    running: World, name: str, more: dict[str, str], value: float
) -> None:
    told = scraped(running).get_sample_value(f"wardrobe_training_{name}", LABELS | more)
    assert told == value


def test_a_job_that_trains_no_more_is_told_no_more(running: World) -> None:
    """What comes behind training takes no steps: it would look like a job that is stuck."""
    (job,) = running.registry.jobs.in_status(JobStatus.RUNNING)
    scratch = running.state.job(job.id)
    reporter = Reporter(running.registry.jobs, job.id, job.attempts, scratch=scratch, every=0.01)
    with reporter.steps() as step:
        step(MEASURES.evolve(step=41))
        wait_until(lambda: sample(running, "wardrobe_training_steps") == 41.0)
    assert samples(scraped(running)) == 0


def test_when_and_why_jobs_have_ended_is_told(running: World) -> None:
    metrics = TrainingMetrics(running.registry.jobs, running.state, now=lambda: 1700.0)
    registry = CollectorRegistry()
    registry.register(metrics)
    (job,) = running.registry.jobs.in_status(JobStatus.RUNNING)
    metrics.note_end(job.id)  # another trainer's now: it has not ended
    ended = LABELS | {"status": "failed", "code": "out_of_memory"}
    assert registry.get_sample_value(ENDED, ended) is None
    error = JobError(code="out_of_memory", message="too large")
    running.registry.jobs.finish(job.id, JobStatus.FAILED, fence=job.attempts, error=error)
    metrics.note_end(job.id)
    assert registry.get_sample_value(ENDED, ended) == 1700.0


def test_what_another_build_has_written_is_told_as_nothing(running: World) -> None:
    (scratch,) = running.state.job(JobId("any")).parent.iterdir()
    (scratch / NAME).write_text('{"pace": 3}')
    assert samples(scraped(running)) == 0


def test_a_scrape_without_the_registry_is_empty_and_no_error(running: World) -> None:
    gone = Troubled(running.registry.jobs, "in_status", *[Unavailable("gone")] * 9)
    assert samples(scraped(running, gone)) == 0


def sample(world: World, name: str) -> float | None:
    return scraped(world).get_sample_value(name, LABELS)


def samples(registry: CollectorRegistry) -> int:
    return sum(len(family.samples) for family in registry.collect())
