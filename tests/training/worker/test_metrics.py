"""What a trainer tells Prometheus of its running jobs."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from adapters.domain.names import JobId
from adapters.errors import Unavailable
from tests.training.world import Troubled, World, data
from training.finetune.port import Measures
from training.job.progress import Reporter
from training.job.progress_file import NAME
from training.worker.metrics import RunningJobs

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
    job = world.claim()
    scratch = world.state.job(job_id)
    scratch.mkdir(parents=True)
    with Reporter(world.registry.jobs, job_id, job.attempts, scratch=scratch).steps() as step:
        step(MEASURES)
    return world


def scraped(world: World, jobs: object = None) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(RunningJobs(jobs or world.registry.jobs, world.state))  # type: ignore[arg-type]
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


def test_a_job_that_runs_no_more_is_told_no_more(running: World) -> None:
    (scratch,) = running.state.job(JobId("any")).parent.iterdir()
    (scratch / NAME).unlink()
    assert samples(scraped(running)) == 0


def test_what_another_build_has_written_is_told_as_nothing(running: World) -> None:
    (scratch,) = running.state.job(JobId("any")).parent.iterdir()
    (scratch / NAME).write_text('{"pace": 3}')
    assert samples(scraped(running)) == 0


def test_a_scrape_without_the_registry_is_empty_and_no_error(running: World) -> None:
    gone = Troubled(running.registry.jobs, "in_status", *[Unavailable("gone")] * 9)
    assert samples(scraped(running, gone)) == 0


def samples(registry: CollectorRegistry) -> int:
    return sum(len(family.samples) for family in registry.collect())
