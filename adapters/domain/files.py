"""Uploaded files: what the registry keeps of them; the bytes are in the artifact store."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.domain.names import Digest, FileId, Unit

PURPOSES = frozenset({"fine-tune", "fine-tune-results"})


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
