"""The result file of a job: OpenAI's CSV of the training curve."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from typing import Any

from adapters.domain.names import FileId, JobId

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
    return FileId(f"file-{hashlib.sha256(job_id.encode()).hexdigest()[:24]}")
