"""What a job does in `validating_files`: files are parsed and split, nothing heavy is imported.

The job leaves as `queued`, or as `failed` with every mistake by its line. A job that is cancelled
meanwhile is left alone.
"""

from __future__ import annotations

import structlog

from adapters.domain.jobs import Job, JobError
from adapters.domain.units import Units
from adapters.errors import Conflict, StorageFull, Unavailable, WardrobeError
from adapters.registry.ports import Files, Jobs
from adapters.store import ArtifactStore
from training.data.files import check_files, find_files
from training.data.split import split

_log = structlog.get_logger(__name__)


def validate_job(job: Job, *, jobs: Jobs, files: Files, store: ArtifactStore, units: Units) -> None:
    """Moves `job` on to queued or failed. Raises Unavailable when the registry cannot be used."""
    names = ", ".join(str(name) for name in (job.training_file, job.validation_file) if name)
    jobs.say(job.id, f"Validating training file: {names}")
    error = _mistake(job, files, store, units)
    try:
        jobs.accept(job.id, error=error)
    except Conflict:
        _log.info("job_moved_meanwhile", job=job.id)
        return
    if error is None:
        jobs.say(job.id, "Files validated, moving job to queued state")
    else:
        jobs.say(job.id, error.message, level="error")


def _mistake(job: Job, files: Files, store: ArtifactStore, units: Units) -> JobError | None:
    try:
        limits = units.get(job.unit).limits
        training, validation = check_files(find_files(job, files), store, limits)
        split(training, validation, seed=job.seed, min_examples=limits.min_examples)
    except (Unavailable, StorageFull):
        raise
    except WardrobeError as error:
        return JobError(code=error.reason, message=error.message, param=error.param)
    return None
