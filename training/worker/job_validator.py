"""What a job does in `validating_files`: files are read, checked and split, as the job will.

Nothing heavy is imported. The job leaves as `queued`, with its checked rows in its scratch, or as
`failed` with every mistake by its line. A job that is cancelled meanwhile is left alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import structlog

from adapters.domain.jobs import Job, JobError
from adapters.domain.recipes import Method
from adapters.domain.units import Units
from adapters.errors import Conflict, StorageFull, Unavailable, WardrobeError
from adapters.registry import Registry
from adapters.store import ArtifactStore
from training.data.files import check_files, find_files
from training.data.preferences import KIND_OF
from training.job.dataset import rules_for, scratch, split_for_life

_log = structlog.get_logger(__name__)


def validate_job(
    job: Job, *, registry: Registry, store: ArtifactStore, units: Units, workdir: Path
) -> None:
    """Moves `job` on to queued or failed; `workdir` is its own.

    Raises Unavailable when the registry cannot be used, StorageFull.
    """
    jobs = registry.jobs
    names = ", ".join(str(name) for name in (job.training_file, job.validation_file) if name)
    jobs.say(job.id, f"Validating training file: {names}")
    error = _mistake(job, registry, store, units, workdir)
    try:
        jobs.accept(job.id, error=error)
    except Conflict:
        _log.info("job_moved_meanwhile", job=job.id)
        return
    if error is None:
        jobs.say(job.id, "Files validated, moving job to queued state")
    else:
        jobs.say(job.id, error.message, level="error")


def _mistake(
    job: Job, registry: Registry, store: ArtifactStore, units: Units, workdir: Path
) -> JobError | None:
    try:
        unit = units.get(job.unit)
        kind = KIND_OF[job.hyperparameters.method or unit.recipe.method or Method.SUPERVISED]
        rules = rules_for(unit, units.folder, registry.erasures, kind)
        files = find_files(job, registry.files)
        rows = check_files(files, store, rules, scratch(workdir))
        fewest = rules.limits.min_examples
        split_for_life(rows, job.adapter, registry.datasets, min_examples=fewest)
    except (Unavailable, StorageFull):
        raise
    except WardrobeError as error:
        shutil.rmtree(scratch(workdir), ignore_errors=True)
        return JobError(code=error.reason, message=error.message, param=error.param)
    return None
