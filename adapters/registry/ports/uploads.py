"""Uploads in parts; the parts' bytes are in the artifact store under their digests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.domain.names import Digest, PartId, Unit, UploadId
from adapters.domain.principals import Principal
from adapters.domain.uploads import Upload, UploadPart
from adapters.registry.ports.files import NewFile


@dataclass(frozen=True, kw_only=True)
class NewUpload:
    """A file that is to come in parts."""

    id: UploadId
    unit: Unit
    filename: str
    purpose: str
    size_bytes: int
    lifetime: int | None = None


@dataclass(frozen=True, kw_only=True)
class NewPart:
    """A part whose bytes are in the store."""

    id: PartId
    digest: Digest
    size_bytes: int


class Uploads(Protocol):
    """Keeps uploads until they have become files."""

    def begin(self, new: NewUpload, *, by: Principal) -> Upload:
        """Raises Conflict (`too_many_uploads`) where the unit has that many pending."""
        ...

    def get(self, upload_id: UploadId, principal: Principal) -> Upload:
        """Raises NotFound when unknown or another unit's."""
        ...

    def add_part(self, upload_id: UploadId, part: NewPart, principal: Principal) -> UploadPart:
        """Equal bytes answer with the part that was added first.

        Raises NotFound, Condemned while the digest is collected, TooLarge where the parts come to
        more than was announced, Conflict (`upload_ended`, `too_many_parts`).
        """
        ...

    def parts(
        self, upload_id: UploadId, part_ids: Sequence[PartId], principal: Principal
    ) -> Sequence[UploadPart]:
        """These parts in this order, each as often as it is named. Raises NotFound."""
        ...

    def complete(self, upload_id: UploadId, file: NewFile, principal: Principal) -> Upload:
        """The upload becomes the file, and its parts go; one that did before is answered as it is.

        Raises NotFound, Condemned while the digest is collected, Conflict (`upload_ended`).
        """
        ...

    def cancel(
        self, upload_id: UploadId, principal: Principal, *, reason: str | None = None
    ) -> Upload:
        """Its parts go. Repeating it changes nothing.

        Raises NotFound, Conflict (`upload_ended`).
        """
        ...
