"""Fine-tuning jobs: OpenAI's object and status machine, with a lease underneath.

    validating_files ─▶ queued ─▶ running ─▶ succeeded | failed
      └─ a dry run ─▶ succeeded | failed
                          ▲  └──────┴─▶ paused ─▶ queued
    any of the unfinished ─▶ cancelled

A trainer holds a job by a lease: owner, fence, deadline. Whoever takes the job over gets a higher
fence, and what decides anything is refused under an older one (`LeaseLost`): the job's status and
fields, its version, its verdicts. Events and checkpoints are for people and are not fenced.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from adapters.domain.names import FileId, JobId, Unit
from adapters.domain.principals import Principal, Role
from adapters.domain.recipes import Hyperparameters, RecipeOverrides
from adapters.errors import IllegalTransition


class JobStatus(StrEnum):
    """OpenAI's words for where a job stands."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Nothing follows it."""
        return not _NEXT[self]


_NEXT: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.VALIDATING_FILES: frozenset(
        {JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset(
        {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PAUSED}
    ),
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.CANCELLED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}


_CHECKED = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})
"""What follows `validating_files` in a dry run."""


class StopRequest(StrEnum):
    """What a running job has been asked to do; the trainer obeys at its next heartbeat."""

    CANCEL = "cancel"
    PAUSE = "pause"


@dataclass(frozen=True, kw_only=True)
class JobError:
    """Why a job failed, in OpenAI's shape."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, kw_only=True)
class Lease:
    """Who runs a job, until when, and under which fence."""

    owner: str
    fence: int
    until: float


@dataclass(frozen=True, kw_only=True)
class Job:
    """One fine-tuning job."""

    id: JobId
    unit: Unit
    adapter: str
    model: str
    """What the caller asked to train on: the base model, or a version that is trained further."""
    training_file: FileId
    validation_file: FileId | None
    status: JobStatus
    created_at: float
    created_by: str
    """The key's id."""
    seed: int
    seed_drawn: bool = False
    """Nobody asked for this seed: its unit's recipe may name another."""
    suffix: str | None = None
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    metadata: dict[str, str] | None = None
    recipe: RecipeOverrides | None = None
    """What this job asks of its recipe, over what its unit's says."""
    dry_run: bool = False
    """Its data is checked as a whole, and nothing is trained."""
    resolved: dict[str, Any] | None = None
    """The recipe it runs with, once known."""
    started_at: float | None = None
    finished_at: float | None = None
    estimated_finish: float | None = None
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    result_files: tuple[FileId, ...] = ()
    error: JobError | None = None
    stop_requested: StopRequest | None = None
    lease: Lease | None = None
    attempts: int = 0

    @property
    def principal(self) -> Principal:
        """As whom the job asks for what is its unit's; histories name it by its id."""
        return Principal(id=self.id, role=Role.UNIT, unit=self.unit)

    def to(self, status: JobStatus, **changes: Any) -> Job:
        """The same job in another status. Raises IllegalTransition."""
        dry = self.dry_run and self.status is JobStatus.VALIDATING_FILES
        if status not in (_CHECKED if dry else _NEXT[self.status]):
            raise IllegalTransition(
                f"job {self.id} is {self.status} and cannot become {status}", code="job_state"
            )
        return replace(self, status=status, **changes)


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """Something worth telling about a job; `id` orders events and is given by the registry."""

    id: int
    job_id: JobId
    created_at: float
    level: str
    """`info`, `warn` or `error`."""
    type: str
    """`message`, `metrics` or `gate_checks`."""
    message: str
    data: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class JobCheckpoint:
    """A point of the run whose validation loss was measured."""

    id: int
    job_id: JobId
    created_at: float
    step: int
    metrics: dict[str, float]
