"""What every registry keeps of datasets: parts for an adapter's life, and a job's artifact."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters.domain.datasets import Part
from adapters.domain.jobs import Job, JobStatus
from adapters.domain.names import Alias, Digest
from adapters.domain.principals import SYSTEM
from adapters.errors import Condemned, LeaseLost
from adapters.registry import Registry
from adapters.registry.ports import Retention
from adapters.registry.sql.datasets import BATCH
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import OWNER, a_build, fence_of, published, running

DAY = 86_400.0
DATASET = Digest("d5" * 32)


def question(text: object) -> bytes:
    return hashlib.blake2b(str(text).encode(), digest_size=16).digest()


def assign(registry: Registry, job: Job, **parts: Part) -> dict[bytes, Part]:
    wanted = {question(name): part for name, part in parts.items()}
    return registry.datasets.assign("support", wanted, job_id=job.id, fence=fence_of(job))


def test_the_first_decision_about_a_question_stays(registry: Registry) -> None:
    job = running(registry)
    assign(registry, job, a=Part.TEST, b=Part.TRAIN)
    before = {question("a"): Part.TEST, question("b"): Part.TRAIN}
    now = assign(registry, job, a=Part.TEST, b=Part.VALIDATION, c=Part.VALIDATION)
    assert now == before, "who decides otherwise decides nothing, and is told"
    asked = [question(name) for name in "abcd"]
    assert registry.datasets.parts("support", asked) == before
    again = assign(registry, job, a=Part.TEST, c=Part.VALIDATION)
    assert again == {question("a"): Part.TEST, question("c"): Part.VALIDATION}
    assert registry.datasets.parts("support", asked) == before | again


def test_another_adapter_decides_for_itself(registry: Registry) -> None:
    assign(registry, running(registry), a=Part.TEST)
    assert registry.datasets.parts("sales", [question("a")]) == {}


def test_no_questions_have_no_parts(registry: Registry) -> None:
    job = running(registry)
    assert registry.datasets.parts("support", []) == {}
    assert assign(registry, job) == {}


def test_more_questions_than_a_statement_has_parameters_are_one_decision(
    registry: Registry,
) -> None:
    job = running(registry)
    parts = {question(at): Part.TRAIN for at in range(2 * BATCH + 1)}
    now = registry.datasets.assign("support", parts, job_id=job.id, fence=fence_of(job))
    assert now == parts == registry.datasets.parts("support", parts)


def test_a_trainer_that_lost_its_lease_decides_and_names_nothing(registry: Registry) -> None:
    job = running(registry)
    with pytest.raises(LeaseLost):
        registry.datasets.assign(
            "support", {question("a"): Part.TEST}, job_id=job.id, fence=fence_of(job) - 1
        )
    with pytest.raises(LeaseLost):
        registry.datasets.record(job.id, DATASET, fence=fence_of(job) - 1)
    assert registry.datasets.parts("support", [question("a")]) == {}
    assert registry.datasets.of_job(job.id) is None


def test_two_jobs_that_decide_at_once_agree(registry: Registry) -> None:
    jobs = [running(registry) for _ in range(2)]
    questions = [question(at) for at in range(500)]

    def decide(at: int) -> dict[bytes, Part]:
        part = [Part.TRAIN, Part.TEST][at]
        ordered = questions if at else questions[::-1]
        wanted = dict.fromkeys(ordered, part)
        return registry.datasets.assign(
            "support", wanted, job_id=jobs[at].id, fence=fence_of(jobs[at])
        )

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(decide, range(2))
    assert first == second


def test_a_jobs_dataset_is_a_root_while_the_job_or_its_version_is_kept(
    registry: Registry, clock: Clock
) -> None:
    job = running(registry)
    assert registry.datasets.of_job(job.id) is None
    registry.datasets.record(job.id, Digest("e" * 64), fence=fence_of(job))
    registry.datasets.record(job.id, DATASET, fence=fence_of(job))
    assert registry.datasets.of_job(job.id) == DATASET
    assert DATASET in registry.collection.roots()
    assert Digest("e" * 64) not in registry.collection.roots()
    version = registry.versions.publish(a_build(), job_id=job.id, fence=fence_of(job))
    registry.jobs.finish(job.id, JobStatus.SUCCEEDED, fence=fence_of(job))
    assert DATASET in registry.collection.roots()
    registry.versions.retire(version.id, OWNER, aliases=(Alias("support"),))
    registry.collection.collect(Retention())
    assert DATASET not in registry.collection.roots()


def test_an_adapter_is_measured_by_its_newest_dataset_that_is_kept(registry: Registry) -> None:
    older = Digest("1" * 64)
    assert registry.datasets.newest("support") is None
    first = running(registry)
    registry.datasets.record(first.id, older, fence=fence_of(first))
    registry.versions.publish(a_build(), job_id=first.id, fence=fence_of(first))
    registry.jobs.finish(first.id, JobStatus.SUCCEEDED, fence=fence_of(first))
    second = running(registry)
    registry.datasets.record(second.id, DATASET, fence=fence_of(second))
    assert registry.datasets.newest("support") == DATASET
    assert registry.datasets.newest("hr") is None
    registry.jobs.finish(second.id, JobStatus.FAILED, fence=fence_of(second))
    assert registry.datasets.newest("support") == older, "what a failed job read is not kept"


def test_a_failed_jobs_dataset_is_no_root(registry: Registry) -> None:
    job = running(registry)
    registry.datasets.record(job.id, DATASET, fence=fence_of(job))
    registry.jobs.finish(job.id, JobStatus.FAILED, fence=fence_of(job))
    assert DATASET not in registry.collection.roots()


def test_a_dataset_that_is_being_deleted_is_not_named(registry: Registry) -> None:
    job = running(registry)
    registry.collection.condemn({DATASET})
    with pytest.raises(Condemned):
        registry.datasets.record(job.id, DATASET, fence=fence_of(job))
    registry.collection.clear({DATASET})
    registry.datasets.record(job.id, DATASET, fence=fence_of(job))
    assert registry.collection.condemn({DATASET}) == set()


def test_parts_end_with_the_adapters_last_version_and_a_while_later(
    registry: Registry, clock: Clock
) -> None:
    job = running(registry)
    assign(registry, job, a=Part.TEST)
    version = published(registry)
    clock.pass_by(1000 * DAY)
    assert registry.collection.collect(Retention(candidate_days=2000.0))["questions"] == 0
    registry.versions.retire(version.id, OWNER, aliases=(Alias("support"),))
    registry.collection.collect(Retention())
    assert registry.datasets.parts("support", [question("a")]), "its job is not over"
    held = registry.jobs.claim(owner="late", lease_seconds=30.0)
    assert held is not None
    registry.jobs.finish(held.id, JobStatus.FAILED, fence=fence_of(held))
    assert registry.collection.collect(Retention())["questions"] == 1
    assert registry.datasets.parts("support", [question("a")]) == {}
    assert registry.jobs.get(job.id, SYSTEM).status is JobStatus.FAILED
