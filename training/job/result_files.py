"""The result files of a job: OpenAI's CSV of the training curve, a picture of it, its dataset's
card, and what TensorBoard reads, where that is asked for; each kept once.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from adapters.domain.files import (
    CARD_FILE,
    CSV_FILE,
    PNG_FILE,
    RESULT_TYPES,
    RESULTS,
    TENSORBOARD_FILE,
)
from adapters.domain.jobs import Job
from adapters.domain.names import Digest, FileId, JobId
from adapters.errors import NotFound
from adapters.hashing import sha256_bytes
from adapters.registry.ports import Files, NewFile
from adapters.store import ArtifactKind, ArtifactStore
from adapters.store.recording import record_artifact
from training.job.loss_picture import loss_png
from training.job.tensorboard_file import event_file

MAX_BYTES = 64 * 1024 * 1024
_COLUMNS = {
    "step": ("step",),
    "train_loss": ("train_loss",),
    "train_accuracy": ("train_mean_token_accuracy", "train_preference_accuracy"),
    "valid_loss": ("valid_loss",),
    "valid_mean_token_accuracy": ("valid_mean_token_accuracy", "valid_preference_accuracy"),
}
"""Column → keys of a metrics event's data, of which an event has one."""


def result_csv(curve: Iterable[Mapping[str, Any]]) -> bytes:
    """One row a step that was told; what was not measured at a step stays empty."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for point in curve:
        rows.writerow([_first(point, keys) for keys in _COLUMNS.values()])
    return text.getvalue().encode("utf-8")


def _first(point: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((point[key] for key in keys if key in point), "")


def result_file_id(job_id: JobId, name: str = CSV_FILE) -> FileId:
    """The same for every attempt of a job, so that a resumed run writes no second file."""
    text = job_id if name == CSV_FILE else f"{job_id}/{name}"
    return FileId(f"file-{sha256_bytes(text.encode())[:24]}")


def kept_results(job: Job, files: Files) -> tuple[FileId, ...]:
    """What this job has kept, in whichever attempt; OpenAI's file comes first."""
    found = []
    for name in RESULT_TYPES:
        with suppress(NotFound):
            found.append(files.get(result_file_id(job.id, name), job.principal).id)
    return tuple(found)


def results_of(
    job: Job, curve: Sequence[Mapping[str, Any]], *, data_card: str, tensorboard: bool = False
) -> Mapping[str, bytes]:
    """The curve, and what the data was like, as files by their names. The unit's own people read
    them: `data_card` may name labels and groups.
    """
    events = {TENSORBOARD_FILE: event_file(curve, began=job.created_at)} if tensorboard else {}
    return {
        CSV_FILE: result_csv(curve),
        PNG_FILE: loss_png(curve),
        CARD_FILE: data_card.encode(),
        **events,
    }


def keep_results(
    job: Job, results: Mapping[str, bytes], *, files: Files, store: ArtifactStore
) -> None:
    """Stores what `results_of` made. Raises Conflict, StorageFull, Unavailable."""
    kept = kept_results(job, files)
    for name, content in results.items():
        if result_file_id(job.id, name) not in kept:
            _keep(job, name, content, files=files, store=store)


def _keep(job: Job, name: str, content: bytes, *, files: Files, store: ArtifactStore) -> None:
    def put() -> tuple[Digest, int]:
        return store.put_file([content], max_bytes=MAX_BYTES)

    digest, size = put()
    new = NewFile(
        id=result_file_id(job.id, name),
        unit=job.unit,
        filename=name,
        purpose=RESULTS,
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
