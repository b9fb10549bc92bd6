"""Uploads in parts: a file too large for one request, put together from parts in an order.

    pending ─▶ completed | cancelled | expired

The parts' bytes are in the artifact store from the moment a part is answered: an upload goes on
through any replica and survives any crash. It is over an hour after it was begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from adapters.domain.files import StoredFile
from adapters.domain.names import Digest, PartId, Unit, UploadId
from adapters.errors import Conflict, TooLarge

PENDING_SECONDS = 3600.0
"""From its beginning to its end, OpenAI's hour."""
MAX_PART_BYTES = 64 * 1024 * 1024
"""Of one part, OpenAI's 64 MB."""
MAX_PARTS = 1000
MAX_OPEN = 16
"""Pending uploads of one unit."""


class UploadStatus(StrEnum):
    """Where an upload stands."""

    PENDING = "pending"
    """It takes parts."""
    COMPLETED = "completed"
    """It has become a file."""
    CANCELLED = "cancelled"
    """Its owner gave it up."""
    EXPIRED = "expired"
    """Its hour is over."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One upload of one unit. `size_bytes` is what its parts must come to."""

    id: UploadId
    unit: Unit
    filename: str
    purpose: str
    size_bytes: int
    status: UploadStatus
    created_at: float
    expires_at: float
    lifetime: int | None = None
    """Seconds after which the file goes by itself."""
    file: StoredFile | None = None
    """What it has become."""


@dataclass(frozen=True, kw_only=True)
class UploadPart:
    """One part. Equal bytes are one part of an upload, which may stand in its order twice."""

    id: PartId
    upload_id: UploadId
    digest: Digest
    size_bytes: int
    created_at: float


def check_pending(upload: Upload) -> None:
    """Raises Conflict (`upload_ended`)."""
    if upload.status is not UploadStatus.PENDING:
        raise Conflict(f"the upload is {upload.status}", code="upload_ended")


def check_room(upload: Upload, part: int, *, parts: int, size_bytes: int) -> None:
    """Whether a part of so many bytes fits beside `parts` others. Raises TooLarge, Conflict."""
    check_pending(upload)
    if parts >= MAX_PARTS:
        raise Conflict(f"an upload has at most {MAX_PARTS} parts", code="too_many_parts")
    if size_bytes + part > upload.size_bytes:
        raise TooLarge(f"the parts come to more than the upload's {upload.size_bytes} bytes")
