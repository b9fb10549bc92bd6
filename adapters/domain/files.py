"""Uploaded files: what the registry keeps of them; the bytes are in the artifact store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from adapters.domain.names import Digest, FileId, Unit

MIN_LIFETIME, MAX_LIFETIME = 3600, 2_592_000
"""Seconds after which a file may go by itself: from an hour to thirty days, as at OpenAI's."""
RESULTS = "fine-tune-results"
"""The purpose of a job's result files: no caller can upload one."""
PURPOSES = frozenset({"fine-tune", RESULTS})
"""Of files that there are; nobody has one of OpenAI's others."""
OTHER_PURPOSES = frozenset(
    {
        "assistants", "assistants_output", "batch", "batch_output", "evals", "user_data", "vision",
    }
)  # fmt: skip
CSV_FILE, PNG_FILE, CARD_FILE = "step_metrics.csv", "loss_curve.png", "data_card.md"
TENSORBOARD_FILE = "events.out.tfevents"
"""TensorBoard looks for these words in a file's name."""
RESULT_TYPES: Mapping[str, str] = MappingProxyType(
    {
        CSV_FILE: "text/csv",
        PNG_FILE: "image/png",
        CARD_FILE: "text/markdown; charset=utf-8",
        TENSORBOARD_FILE: "application/octet-stream",
    }
)
"""Media types of a job's result files, by their names, in the order in which a job lists them."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One file of one unit. `digest` names its bytes in the store."""

    id: FileId
    unit: Unit
    filename: str
    purpose: str
    size_bytes: int
    digest: Digest
    created_at: float
    expires_at: float | None = None
    """When it goes by itself; a job that has not ended keeps it until then."""

    @property
    def media_type(self) -> str:
        """Of its bytes. A name counts only where we gave it."""
        if self.purpose != RESULTS:
            return "application/jsonl"
        return RESULT_TYPES.get(self.filename, "application/octet-stream")
