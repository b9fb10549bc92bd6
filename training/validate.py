"""What a job does in `validating_files`: files are parsed and split, nothing heavy is imported.

The job leaves as `queued`, or as `failed` with every mistake by its line. A job that is cancelled
meanwhile is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from adapters.domain.jobs import Job, JobError, JobStatus
from adapters.domain.units import Units
from adapters.errors import Conflict, StorageFull, Unavailable, WardrobeError
from adapters.registry import Registry
from adapters.store import ArtifactStore
from training.data.files import check_files, find_files
from training.data.split import split

_log = structlog.get_logger(__name__)


def validate_job(
    job: Job,
    *,
    registry: Registry,
    store: ArtifactStore,
    units: Units,
    clock: Callable[[], float] = time.time,
) -> None:
    """Moves `job` on to queued or failed. Raises Unavailable when the registry cannot be used."""

    def say(level: str, message: str) -> None:
        registry.add_event(job.id, at=clock(), level=level, type="message", message=message)

    names = ", ".join(str(name) for name in (job.training_file, job.validation_file) if name)
    say("info", f"Validating training file: {names}")
    error = _mistake(job, registry, store, units)
    try:
        if error is None:
            registry.move_job(job.id, JobStatus.QUEUED, fence=None)
            say("info", "Files validated, moving job to queued state")
        else:
            registry.move_job(
                job.id, JobStatus.FAILED, fence=None, error=error, finished_at=clock()
            )
            say("error", error.message)
    except Conflict:
        _log.info("job_moved_meanwhile", job=job.id)


def _mistake(job: Job, registry: Registry, store: ArtifactStore, units: Units) -> JobError | None:
    try:
        limits = units.get(job.unit).limits
        training, validation = check_files(find_files(job, registry), store, limits)
        split(training, validation, seed=job.seed, min_examples=limits.min_examples)
    except (Unavailable, StorageFull):
        raise
    except WardrobeError as error:
        return JobError(code=error.reason, message=error.message, param=error.param)
    return None
