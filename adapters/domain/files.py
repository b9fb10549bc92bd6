"""Uploaded files: what the registry keeps of them; the bytes are in the artifact store."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.domain.names import Digest, FileId, Unit

MIN_LIFETIME, MAX_LIFETIME = 3600, 2_592_000
"""Seconds after which a file may go by itself: from an hour to thirty days, as at OpenAI's."""
PURPOSES = frozenset({"fine-tune", "fine-tune-results"})
"""Of files that there are; nobody has one of OpenAI's others."""
OTHER_PURPOSES = frozenset(
    {
        "assistants", "assistants_output", "batch", "batch_output", "evals", "user_data", "vision",
    }
)  # fmt: skip


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
