"""Domain values for the contract suites, with only what a test cares about spelled out."""

from __future__ import annotations

from typing import Any

from adapters.domain.api_keys import NewKey
from adapters.domain.datasets import Part
from adapters.domain.evaluations import BASE as BASE_ALONE
from adapters.domain.evaluations import NewEvaluation, Scorer
from adapters.domain.files import StoredFile
from adapters.domain.gates import GateResult, at_least
from adapters.domain.jobs import Job, JobStatus
from adapters.domain.names import (
    Alias,
    Digest,
    Unit,
    VersionId,
    new_file_id,
    new_job_id,
    new_part_id,
    new_upload_id,
)
from adapters.domain.principals import SYSTEM, Principal, Role
from adapters.domain.recipes import Hyperparameters
from adapters.domain.routes import Rollout, RolloutState, Route
from adapters.domain.versions import Version
from adapters.registry import Registry
from adapters.registry.ports import (
    Acknowledgement,
    NewFile,
    NewJob,
    NewPart,
    NewUpload,
    NewVersion,
    ProcessId,
    Registration,
)
from adapters.registry.ports.replicas import OnLoss

SUPPORT = Unit("support")
SALES = Unit("sales")
ALIAS = Alias("support")
ALIASES = (ALIAS, Alias("triage"))
"""Those that the configuration gives to the unit."""
BASE = Digest("b" * 64)
OTHER_BASE = Digest("0" * 64)
ADMIN = Principal(id="key_admin", role=Role.ADMIN, unit=None)
OWNER = Principal(id="key_1", role=Role.UNIT, unit=SUPPORT)
STRANGER = Principal(id="key_2", role=Role.UNIT, unit=SALES)
LEASE_S = 30.0


def owner_of(unit: Unit) -> Principal:
    return {SUPPORT: OWNER, SALES: STRANGER}[unit]


def a_file(unit: Unit = SUPPORT, **changes: Any) -> NewFile:
    values: dict[str, Any] = {
        "id": new_file_id(),
        "unit": unit,
        "filename": "train.jsonl",
        "purpose": "fine-tune",
        "size_bytes": 12_000_000_000,
        "digest": Digest("d" * 64),
    }
    return NewFile(**(values | changes))


def added_file(registry: Registry, unit: Unit = SUPPORT, **changes: Any) -> StoredFile:
    return registry.files.add(a_file(unit, **changes), by=owner_of(unit))


def an_upload(unit: Unit = SUPPORT, **changes: Any) -> NewUpload:
    values: dict[str, Any] = {
        "id": new_upload_id(),
        "unit": unit,
        "filename": "train.jsonl",
        "purpose": "fine-tune",
        "size_bytes": 100,
    }
    return NewUpload(**(values | changes))


def a_part(digest: str = "1", **changes: Any) -> NewPart:
    values: dict[str, Any] = {"id": new_part_id(), "digest": Digest(digest * 64), "size_bytes": 10}
    return NewPart(**(values | changes))


def a_job(registry: Registry, unit: Unit = SUPPORT, **changes: Any) -> NewJob:
    """What a caller asks for, with a training file that is there."""
    values: dict[str, Any] = {
        "id": new_job_id(),
        "unit": unit,
        "adapter": str(unit),
        "model": "base",
        "training_file": changes.pop("training_file", None) or added_file(registry, unit).id,
        "validation_file": None,
        "seed": 2**30,
        "hyperparameters": Hyperparameters(n_epochs=3),
        "metadata": {"team": "emea"},
    }
    return NewJob(**(values | changes))


def created(registry: Registry, unit: Unit = SUPPORT, **changes: Any) -> Job:
    """A job whose files are not yet validated."""
    job = a_job(registry, unit, **changes)
    return registry.jobs.create(job, owner_of(unit), idempotency_key=None)


def queued(registry: Registry, unit: Unit = SUPPORT, **changes: Any) -> Job:
    return registry.jobs.accept(created(registry, unit, **changes).id, error=None)


def in_status(registry: Registry, status: JobStatus) -> Job:
    """A job that nobody runs, in this status."""
    job = created(registry)
    if status is JobStatus.VALIDATING_FILES:
        return job
    registry.jobs.accept(job.id, error=None)
    if status is JobStatus.QUEUED:
        return registry.jobs.get(job.id, SYSTEM)
    running = claimed(registry)
    assert running.id == job.id
    return registry.jobs.finish(job.id, status, fence=fence_of(running))


def claimed(registry: Registry, *, owner: str = "trainer-1") -> Job:
    job = registry.jobs.claim(owner=owner, lease_seconds=LEASE_S)
    assert job is not None
    return job


def running(registry: Registry) -> Job:
    """A job that a trainer runs; no other must be claimable."""
    queued(registry)
    return claimed(registry)


def fence_of(job: Job) -> int:
    assert job.lease is not None
    return job.lease.fence


def a_key(key_id: str = "key_1", **changes: Any) -> NewKey:
    values: dict[str, Any] = {
        "id": key_id,
        "role": Role.UNIT,
        "unit": SUPPORT,
        "hash": key_id.rjust(64, "0"),
    }
    return NewKey(**(values | changes))


def a_gate(*, passed: bool = True, gate: str = "effect") -> GateResult:
    return at_least(gate, 0.5 if passed else 0.125, 0.25, "half")


def an_evaluation(of: Version | None = None, **changes: Any) -> NewEvaluation:
    """Of a version, or of the base alone."""
    values: dict[str, Any] = {
        "unit": SUPPORT,
        "adapter": "support",
        "subject": BASE_ALONE if of is None else of.name,
        "version_id": None if of is None else of.id,
        "base_fingerprint": BASE,
        "dataset": "d" * 64,
        "part": Part.TEST,
        "scorer": Scorer.TOKEN_F1,
        "seed": 2**40,
        "conditions": {"engine": "vllm 0", "slack": 8},
        "scores": {"row-1": 0.1, "row-2": 1.0},
    }
    return NewEvaluation(**(values | changes))


def a_build(unit: Unit = SUPPORT, adapter: str | None = None, **changes: Any) -> NewVersion:
    values: dict[str, Any] = {
        "adapter": adapter or str(unit),
        "unit": unit,
        "digest": Digest("a" * 64),
        "base_fingerprint": BASE,
        "rank": 8,
        "size_bytes": 12_000_000_000,
        "evidence": {"loss": 0.25, "steps": [1, 2]},
    }
    return NewVersion(**(values | changes))


def published(
    registry: Registry, unit: Unit = SUPPORT, adapter: str | None = None, **changes: Any
) -> Version:
    return registry.versions.publish(a_build(unit, adapter, **changes), job_id=None, fence=None)


def trained(registry: Registry) -> tuple[Job, Version]:
    """A job that runs, and the version it has published and not yet judged."""
    job = running(registry)
    version = registry.versions.publish(a_build(), job_id=job.id, fence=fence_of(job))
    return job, version


def judged(registry: Registry, *gates: GateResult) -> Version:
    """A version of a job, with its verdicts."""
    job, version = trained(registry)
    return registry.versions.record_gates(version.id, gates, fence=fence_of(job), evidence={})


# -- replicas


def a_process(replica: str = "replica-1", incarnation: str = "one", number: int = 0) -> ProcessId:
    return ProcessId(replica=replica, incarnation=incarnation, number=number)


def joined(
    registry: Registry,
    process: ProcessId | None = None,
    *,
    base: Digest = BASE,
    on_loss: OnLoss = "keep",
    observed: bool = True,
) -> ProcessId:
    """A process that has registered, and routes by the newest revision."""
    process = process or a_process()
    registry.replicas.register(
        Registration(
            process=process,
            base_fingerprint=base,
            limits={"max_lora_rank": 32},
            on_loss=on_loss,
        )
    )
    beat(registry, process)
    if observed:
        observe(registry, process)
    return process


def beat(registry: Registry, process: ProcessId, *, lease_seconds: float = 15.0) -> None:
    registry.replicas.heartbeat(process, ready=True, lease_seconds=lease_seconds)


def observe(registry: Registry, process: ProcessId) -> None:
    """Routes by the newest revision."""
    newest = registry.routes.revision()
    assert registry.replicas.observe(process, newest) == newest


def load(registry: Registry, process: ProcessId, *versions: Version | VersionId) -> None:
    acknowledge(registry, process, *versions, error=None)


def acknowledge(
    registry: Registry, process: ProcessId, *versions: Version | VersionId, error: str | None
) -> None:
    ids = [version.id if isinstance(version, Version) else version for version in versions]
    told = [Acknowledgement(version_id=version_id, error=error) for version_id in ids]
    registry.replicas.acknowledge(process.replica, process.incarnation, told)


# -- rollouts


def promote(
    registry: Registry,
    version: Version,
    *,
    alias: Alias = ALIAS,
    unit: Unit = SUPPORT,
    by: Principal = ADMIN,
    expected: int | None = None,
) -> Rollout:
    return registry.rollouts.promote(alias, version.id, by, unit=unit, expected_generation=expected)


def roll_back(registry: Registry, expected: int, *, alias: Alias = ALIAS) -> Rollout:
    return registry.rollouts.roll_back(alias, OWNER, unit=SUPPORT, expected_generation=expected)


def carried_out(registry: Registry, rollout: Rollout) -> Route:
    """The route once the replica has loaded the target, the route has flipped, and it saw that."""
    process = joined(registry)
    load(registry, process, rollout.target)
    flip_and_complete(registry, process)
    assert registry.rollouts.get(rollout.id).state is RolloutState.COMPLETE
    return registry.routes.route(rollout.alias, rollout.unit)


def flip_and_complete(registry: Registry, process: ProcessId) -> None:
    """Moves what is loaded to its end: the process is the only one to observe it."""
    registry.rollouts.advance()
    observe(registry, process)
    registry.rollouts.advance()


def carry_out_all(registry: Registry, process: ProcessId) -> None:
    """The process loads whatever is wanted, and all of it comes to its end."""
    for rollout in registry.routes.changes(-1).rollouts:
        load(registry, process, rollout.target)
    flip_and_complete(registry, process)


def promoted(registry: Registry, version: Version, alias: Alias = ALIAS) -> Route:
    rollout = promote(registry, version, alias=alias, unit=version.unit)
    return carried_out(registry, rollout)


def went_live(registry: Registry, number: int) -> list[Version]:
    """So many versions, of which each replaced the one before."""
    versions = [published(registry) for _ in range(number)]
    for version in versions:
        promoted(registry, version)
    return versions
