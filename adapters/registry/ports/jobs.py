"""Fine-tuning jobs: the queue, the lease, and what jobs tell.

Commands of a trainer carry the fence of its lease; what decides anything is refused under an older
one (LeaseLost).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from adapters.domain.jobs import (
    Job,
    JobCheckpoint,
    JobError,
    JobEvent,
    JobStatus,
    StopRequest,
)
from adapters.domain.names import FileId, JobId, Unit, new_job_id
from adapters.domain.pages import Page
from adapters.domain.principals import Principal
from adapters.domain.recipes import Hyperparameters, RecipeOverrides


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a caller asks for; it begins as `validating_files`."""

    id: JobId
    unit: Unit
    adapter: str
    model: str
    training_file: FileId
    validation_file: FileId | None
    seed: int | None
    """None draws one, unless the unit's recipe names it: a repeated request without a seed has the
    same words."""
    suffix: str | None = None
    hyperparameters: Hyperparameters
    metadata: Mapping[str, str] | None = None
    recipe: RecipeOverrides | None = None
    dry_run: bool = False

    @classmethod
    def like(cls, job: Job, **changes: Any) -> NewJob:
        """One with the words of an earlier job, but for `changes`."""
        same: dict[str, Any] = {
            "unit": job.unit,
            "adapter": job.adapter,
            "model": job.model,
            "training_file": job.training_file,
            "validation_file": job.validation_file,
            "seed": None if job.seed_drawn else job.seed,
            "suffix": job.suffix,
            "hyperparameters": job.hyperparameters,
            "metadata": job.metadata,
            "recipe": job.recipe,
            "dry_run": job.dry_run,
        }
        return cls(id=new_job_id(), **{**same, **changes})


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a run tells at one step, written in one transaction."""

    seconds_left: float
    """The estimated finish is the database's now plus this."""
    message: str
    data: Mapping[str, Any]
    """Of the metrics event."""
    checkpoint: Mapping[str, float] | None = None
    """Metrics of a checkpoint made at this step, if one was; `data["step"]` is its step."""


class Jobs(Protocol):
    """Keeps the jobs of all units, for their owners and for trainers."""

    # -- owners

    def create(self, job: NewJob, principal: Principal, *, idempotency_key: str | None) -> Job:
        """Stores the job. A repeated (unit, idempotency_key) with the same words returns the job
        stored first; with other words it raises Conflict (`idempotency_key_reused`).

        Raises NotFound for a file that is not the unit's, and where `model` names a version that
        is not (`param` says which); Conflict for a version that may not be served any more
        (`version_retired`, `version_rejected`).
        """
        ...

    def get(self, job_id: JobId, principal: Principal) -> Job:
        """Raises NotFound when unknown or another unit's."""
        ...

    def list(
        self,
        principal: Principal,
        *,
        metadata: Mapping[str, str] | None,
        after: str | None,
        limit: int,
    ) -> Page[Job]:
        """Newest first, those with every given pair of metadata; of no pairs, those without any."""
        ...

    def request_stop(
        self, job_id: JobId, stop: StopRequest, principal: Principal, *, reason: str | None = None
    ) -> Job:
        """Cancel or pause: at once where no trainer runs it, else recorded for the trainer.

        Repeating it changes nothing. A rollout that a cancelled job has asked for ends with it
        while it is loading, and the job may ask for no other. Raises NotFound, IllegalTransition.
        """
        ...

    def resume(self, job_id: JobId, principal: Principal, *, reason: str | None = None) -> Job:
        """Paused → queued. Raises NotFound, IllegalTransition."""
        ...

    def events(
        self, job_id: JobId, principal: Principal, *, after: str | None, limit: int
    ) -> Page[JobEvent]:
        """Newest first; `after` is an event's id as text. Raises NotFound."""
        ...

    def checkpoints(
        self, job_id: JobId, principal: Principal, *, after: str | None, limit: int
    ) -> Page[JobCheckpoint]:
        """Newest first; `after` is a checkpoint's id as text. Raises NotFound."""
        ...

    # -- the trainer

    def in_status(self, *statuses: JobStatus) -> Sequence[Job]:
        """Oldest first."""
        ...

    def accept(self, job_id: JobId, *, error: JobError | None) -> Job:
        """The end of validation: queued, or failed with `error`; a dry run has succeeded by it.

        Raises IllegalTransition.
        """
        ...

    def claim(self, *, owner: str, lease_seconds: float) -> Job | None:
        """A job that is queued, or running under an ended lease, now leased to `owner`.

        Units take turns: the oldest job of the unit whose last claim is longest ago. The job comes
        back `running` with a fence higher than any it had and `attempts` one more.
        """
        ...

    def heartbeat(self, job_id: JobId, *, fence: int, lease_seconds: float) -> Job:
        """Prolongs the lease; the answer carries `stop_requested`. Raises LeaseLost."""
        ...

    def resolve(self, job_id: JobId, *, fence: int, recipe: Mapping[str, Any]) -> Job:
        """Records the recipe a run uses. Raises LeaseLost, also once a cancel was asked for."""
        ...

    def report_progress(self, job_id: JobId, progress: Progress, *, fence: int) -> None:
        """Estimated finish, a metrics event and a checkpoint, whole. Raises LeaseLost."""
        ...

    def trained(self, job_id: JobId, *, fence: int, tokens: int) -> Job:
        """Training is over, evaluation follows. Raises LeaseLost."""
        ...

    def finish(
        self,
        job_id: JobId,
        status: JobStatus,
        *,
        fence: int,
        error: JobError | None = None,
        fine_tuned_model: str | None = None,
        result_files: Sequence[FileId] = (),
    ) -> Job:
        """Succeeded, failed, cancelled or paused; gives the lease back.

        Raises LeaseLost when `fence` is not current, or a cancel was asked for and this is not it.
        """
        ...

    def say(
        self,
        job_id: JobId,
        message: str,
        *,
        level: str = "info",
        type: str = "message",
        data: Mapping[str, Any] | None = None,
    ) -> JobEvent:
        """An event. Not fenced: it is for people, and decides nothing. Raises NotFound."""
        ...
