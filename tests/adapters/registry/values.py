"""Domain values for the contract suites, with only what a test cares about spelled out."""

from __future__ import annotations

from typing import Any

from adapters.domain.files import StoredFile
from adapters.domain.gates import GateResult
from adapters.domain.jobs import Job, JobStatus
from adapters.domain.names import Alias, Digest, FileId, JobId, Unit, new_file_id, new_job_id
from adapters.domain.principals import Key, Role
from adapters.domain.recipes import Hyperparameters
from adapters.domain.routes import Rollout, Route
from adapters.domain.versions import Version
from adapters.registry import NewVersion, Registry

SUPPORT = Unit("support")
SALES = Unit("sales")
ALIAS = Alias("support")
BASE = Digest("b" * 64)


def a_file(unit: Unit = SUPPORT, **changes: Any) -> StoredFile:
    values: dict[str, Any] = {
        "id": new_file_id(),
        "unit": unit,
        "filename": "train.jsonl",
        "purpose": "fine-tune",
        "size_bytes": 12_000_000_000,
        "digest": Digest("d" * 64),
        "created_at": 1.5,
    }
    return StoredFile(**(values | changes))


def a_job(unit: Unit = SUPPORT, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": new_job_id(),
        "unit": unit,
        "adapter": str(unit),
        "model": "base",
        "training_file": FileId("file-training"),
        "validation_file": None,
        "status": JobStatus.QUEUED,
        "created_at": 1.5,
        "created_by": "key_1",
        "seed": 2**40,
        "hyperparameters": Hyperparameters(n_epochs=3),
        "metadata": {"team": "emea"},
    }
    return Job(**(values | changes))


def a_key(key_id: str = "key_1", **changes: Any) -> Key:
    values: dict[str, Any] = {
        "id": key_id,
        "role": Role.UNIT,
        "unit": SUPPORT,
        "hash": key_id.rjust(64, "0"),
        "created_at": 1.5,
    }
    return Key(**(values | changes))


def a_gate(*, passed: bool = True, gate: str = "effect") -> GateResult:
    return GateResult(gate=gate, passed=passed, measured=0.5, threshold=0.25, detail="half")


def a_build(unit: Unit = SUPPORT, adapter: str | None = None, digest: str = "a" * 64) -> NewVersion:
    return NewVersion(
        adapter=adapter or str(unit),
        unit=unit,
        digest=Digest(digest),
        base_fingerprint=BASE,
        rank=8,
        size_bytes=12_000_000_000,
        evidence={"loss": 0.25, "steps": [1, 2]},
    )


def published(registry: Registry, unit: Unit = SUPPORT, adapter: str | None = None) -> Version:
    return registry.publish_version(a_build(unit, adapter), job_id=None, fence=None, at=2.0)


def trained(registry: Registry, *, now: float = 10.0) -> tuple[Job, Version]:
    """A job that runs, and the version it has published and not yet judged."""
    registry.add_job(a_job())
    job = claimed(registry, now=now)
    version = registry.publish_version(a_build(), job_id=job.id, fence=fence_of(job), at=now)
    return job, version


def judged(registry: Registry, *gates: GateResult) -> Version:
    """A version of a job, with its verdicts."""
    job, version = trained(registry)
    return registry.record_gates(version.id, gates, fence=fence_of(job), evidence={})


def begin(
    registry: Registry,
    version: Version,
    *,
    alias: Alias = ALIAS,
    unit: Unit = SUPPORT,
    actor: str = "key_1",
    expected: int | None = None,
) -> Rollout:
    return registry.begin_rollout(
        alias,
        version.id,
        unit=unit,
        action="promote",
        actor=actor,
        expected_generation=expected,
        at=3.0,
    )


def promoted(registry: Registry, version: Version, alias: Alias = ALIAS) -> Route:
    rollout = begin(registry, version, alias=alias, unit=version.unit)
    return registry.complete_rollout(rollout.id, at=4.0)


def claimed(registry: Registry, *, now: float = 10.0, owner: str = "trainer-1") -> Job:
    job = registry.claim_job(owner=owner, now=now, lease_seconds=30.0)
    assert job is not None
    return job


def fence_of(job: Job) -> int:
    assert job.lease is not None
    return job.lease.fence


def job_id(text: str) -> JobId:
    return JobId(text)
