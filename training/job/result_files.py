"""The result file of a job: OpenAI's CSV of the training curve, kept once for its owner."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from adapters.domain.jobs import Job
from adapters.domain.names import Digest, FileId, JobId
from adapters.errors import NotFound
from adapters.hashing import sha256_bytes
from adapters.registry.ports import Files, NewFile
from adapters.store import ArtifactKind, ArtifactStore
from adapters.store.recording import record_artifact

MAX_BYTES = 64 * 1024 * 1024
_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}
"""Column → key of a metrics event's data."""


def result_csv(curve: Iterable[Mapping[str, Any]]) -> bytes:
    """One row a step that was told; what was not measured at a step stays empty."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for point in curve:
        rows.writerow([point.get(key, "") for key in _COLUMNS.values()])
    return text.getvalue().encode("utf-8")


def result_file_id(job_id: JobId) -> FileId:
    """The same for every attempt of a job, so that a resumed run writes no second file."""
    return FileId(f"file-{sha256_bytes(job_id.encode())[:24]}")


def kept_results(job: Job, files: Files) -> tuple[FileId, ...]:
    """What this job has kept, in whichever attempt."""
    try:
        return (files.get(result_file_id(job.id), job.principal).id,)
    except NotFound:
        return ()


def keep_results(
    job: Job, curve: Iterable[Mapping[str, Any]], *, files: Files, store: ArtifactStore
) -> None:
    """Stores the curve as the job's result file. Raises Conflict, StorageFull, Unavailable."""
    content = result_csv(curve)

    def put() -> tuple[Digest, int]:
        return store.put_file([content], max_bytes=MAX_BYTES)

    digest, size = put()
    new = NewFile(
        id=result_file_id(job.id),
        unit=job.unit,
        filename="step_metrics.csv",
        purpose="fine-tune-results",
        size_bytes=size,
        digest=digest,
    )
    record_artifact(
        store,
        digest,
        ArtifactKind.FILE,
        add_row=lambda: files.add(new, by=job.principal),
        put_again=put,
    )
