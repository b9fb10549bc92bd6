"""What the service and the trainer need of the registry, as one Protocol.

Implemented twice: `adapters.registry.sql` (SQLite, later PostgreSQL) and
`adapters.registry.memory`; both pass `tests/adapters/registry/`. Every method is one
transaction, is durable when it returns, and blocks: async callers use a thread.
Unknown ids raise NotFound; `unit=None` means every unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from adapters.domain.files import StoredFile
from adapters.domain.gates import GateResult
from adapters.domain.jobs import Job, JobCheckpoint, JobEvent, JobStatus, StopRequest
from adapters.domain.names import Alias, Digest, FileId, JobId, Unit, VersionId
from adapters.domain.pages import Page
from adapters.domain.principals import Key
from adapters.domain.routes import Rollout, Route
from adapters.domain.versions import Version


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything a replica needs to route and converge, read in one transaction.

    `versions` holds every version that is not rejected, by id.
    """

    revision: int
    routes: Mapping[Alias, Route]
    rollouts: tuple[Rollout, ...]
    """Those that are loading."""
    versions: Mapping[VersionId, Version]
    keys: tuple[Key, ...]
    """Those not revoked."""


@dataclass(frozen=True, kw_only=True)
class ReplicaReport:
    """What one replica says of itself: the acknowledgement half of a rollout."""

    id: str
    at: float
    revision: int
    """Of the snapshot it routes by."""
    loaded: frozenset[VersionId]
    ready: bool
    base_fingerprint: Digest
    limits: Mapping[str, Any]
    """`max_lora_rank`, `max_model_len`, …: what the trainer asks before it spends a minute."""


@dataclass(frozen=True, kw_only=True)
class NewVersion:
    """A published artifact on its way to becoming a version; the registry gives the number."""

    adapter: str
    unit: Unit
    digest: Digest
    base_fingerprint: Digest
    rank: int
    size_bytes: int
    evidence: Mapping[str, Any]


class Registry(Protocol):
    """Desired state, jobs, files and keys."""

    # -- snapshot and replicas

    def revision(self) -> int:
        """Grows whenever a snapshot would differ. Cheap: polled several times a second."""
        ...

    def snapshot(self) -> Snapshot: ...

    def report_replica(self, report: ReplicaReport) -> None:
        """Upsert by id. Does not change `revision`."""
        ...

    def replicas(self, *, newer_than: float) -> Sequence[ReplicaReport]:
        """Reports with `at` after `newer_than` (seconds since the epoch)."""
        ...

    def forget_replica(self, replica_id: str) -> None:
        """A clean exit; unknown ids are fine."""
        ...

    # -- keys

    def add_keys(self, keys: Sequence[Key]) -> None: ...

    def keys(self) -> Sequence[Key]:
        """Those not revoked, oldest first."""
        ...

    def find_key(self, hashed: str) -> Key | None:
        """The key of this hash, be it revoked or not; None when it was never known."""
        ...

    def revoke_key(self, key_id: str, *, at: float) -> None: ...

    # -- files

    def add_file(self, file: StoredFile) -> None: ...

    def file(self, file_id: FileId, *, unit: Unit | None) -> StoredFile:
        """Raises NotFound when unknown, deleted or another unit's."""
        ...

    def files(
        self,
        *,
        unit: Unit | None,
        purpose: str | None,
        after: str | None,
        limit: int,
        newest_first: bool,
    ) -> Page[StoredFile]: ...

    def delete_file(self, file_id: FileId, *, unit: Unit | None) -> Digest | None:
        """Forgets a file; the answer is its digest when no other file has the same bytes.

        Only then may the store's copy go. Raises Conflict (`file_in_use`) while an unfinished job
        names the file.
        """
        ...

    # -- jobs

    def add_job(self, job: Job, *, idempotency_key: str | None = None) -> Job:
        """Stores `job`; a repeated (unit, idempotency_key) returns the job stored first."""
        ...

    def job(self, job_id: JobId, *, unit: Unit | None) -> Job: ...

    def jobs(
        self,
        *,
        unit: Unit | None,
        metadata: Mapping[str, str] | None,
        after: str | None,
        limit: int,
    ) -> Page[Job]:
        """Newest first."""
        ...

    def jobs_in(self, status: JobStatus) -> Sequence[Job]:
        """Oldest first."""
        ...

    def move_job(self, job_id: JobId, to: JobStatus, *, fence: int | None, **changes: Any) -> Job:
        """`Job.to` in a transaction, with `changes`; drops the lease when not running.

        `fence=None` is a move by someone without a lease (validation, cancel of a queued job).
        Raises IllegalTransition, and LeaseLost when `fence` is not the current one of a leased job
        or the job is being cancelled and this is not its end.
        """
        ...

    def update_job(self, job_id: JobId, *, fence: int, **changes: Any) -> Job:
        """Changes fields (not the status) under the lease.

        Raises LeaseLost, also once a cancel of the job was asked for.
        """
        ...

    def request_stop(self, job_id: JobId, stop: StopRequest, *, at: float) -> Job:
        """Cancel or pause: at once where no trainer runs it, else recorded for the trainer.

        A rollout that a cancelled job has asked for ends with it, and it may ask for no other.
        Raises IllegalTransition when the job is finished (or, for pause, already paused).
        """
        ...

    def resume_job(self, job_id: JobId) -> Job:
        """Paused → queued. Raises IllegalTransition."""
        ...

    def claim_job(self, *, owner: str, now: float, lease_seconds: float) -> Job | None:
        """The oldest job that is queued, or running under an ended lease, now leased to `owner`.

        The job comes back `running` with a fence higher than any it had and `attempts` one more.
        """
        ...

    def heartbeat(self, job_id: JobId, *, fence: int, now: float, lease_seconds: float) -> Job:
        """Prolongs the lease; the answer carries `stop_requested`. Raises LeaseLost."""
        ...

    def add_event(
        self,
        job_id: JobId,
        *,
        at: float,
        level: str,
        type: str,
        message: str,
        data: Mapping[str, Any] | None = None,
    ) -> JobEvent:
        """Something told of a job. Not fenced: it is for people, and decides nothing."""
        ...

    def events(self, job_id: JobId, *, after: str | None, limit: int) -> Page[JobEvent]:
        """Newest first; `after` is an event's id as text."""
        ...

    def add_checkpoint(
        self, job_id: JobId, *, at: float, step: int, metrics: Mapping[str, float]
    ) -> JobCheckpoint:
        """One per (job, step): a repeated step (a resumed run) returns the first. Not fenced."""
        ...

    def checkpoints(
        self, job_id: JobId, *, after: str | None, limit: int
    ) -> Page[JobCheckpoint]: ...

    # -- versions

    def publish_version(
        self, new: NewVersion, *, job_id: JobId | None, fence: int | None, at: float
    ) -> Version:
        """A candidate with the adapter's next number; bumps `revision`.

        At most one version per job: a second call for the same job returns the first version.
        Raises LeaseLost when `job_id` is given and `fence` is not its current one, or a cancel of
        the job was asked for.
        """
        ...

    def record_gates(
        self,
        version_id: VersionId,
        gates: Sequence[GateResult],
        *,
        fence: int,
        evidence: Mapping[str, Any],
    ) -> Version:
        """Keeps the verdicts, merges `evidence`; rejects a version that failed. Bumps `revision`.

        Only who holds the lease of the job that made the version may judge it, and once: raises
        LeaseLost, and IllegalTransition (`already_judged`).
        """
        ...

    def version(self, adapter: str, number: int, *, unit: Unit | None) -> Version: ...

    def version_by_id(self, version_id: VersionId) -> Version: ...

    def version_of_job(self, job_id: JobId) -> Version | None: ...

    def versions(
        self, *, unit: Unit | None, adapter: str | None, after: str | None, limit: int
    ) -> Page[Version]:
        """Newest first; `after` is a version's name (`support:7`)."""
        ...

    # -- routes

    def route(self, alias: Alias, *, unit: Unit) -> Route:
        """The route, or an empty one of generation 0 where the alias was never promoted."""
        ...

    def begin_rollout(
        self,
        alias: Alias,
        version_id: VersionId,
        *,
        unit: Unit,
        action: str,
        actor: str,
        expected_generation: int | None,
        at: float,
    ) -> Rollout:
        """Checks the generation and starts a rollout; bumps `revision`.

        A route that already serves the version is left alone: the answer is a rollout of state
        complete with id 0. Raises VersionConflict (generation moved), Conflict
        (`rollout_in_progress`, `job_state` where `actor` is a job that has been cancelled),
        Conflict from `check_promotable`.
        """
        ...

    def complete_rollout(self, rollout_id: int, *, at: float) -> Route:
        """Flips the route, moves the versions' states; idempotent. Bumps `revision`.

        Raises VersionConflict when the route is no longer at the rollout's generation.
        """
        ...

    def fail_rollout(self, rollout_id: int, error: str, *, at: float) -> None:
        """Ends a loading rollout; the route stays as it was. Idempotent."""
        ...

    def rollout(self, rollout_id: int) -> Rollout: ...

    def rollouts(self, *, alias: Alias, after: str | None, limit: int) -> Page[Rollout]:
        """An alias's history, newest first."""
        ...

    def close(self) -> None:
        """Lets go of connections; further calls are undefined."""
        ...
