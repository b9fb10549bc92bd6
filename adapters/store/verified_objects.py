"""Objects that are read back after writing and checked against their digest at every read."""

from __future__ import annotations

import io
from typing import BinaryIO

from adapters.admission.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    Manifest,
    damaged,
    parse_manifest,
)
from adapters.domain.names import Digest
from adapters.errors import NotFound, Unavailable
from adapters.hashing import RunningSha256
from adapters.store.bucket import Bucket

TRIES = 3
"""How often whole bytes are read or written until their digest is right."""


class VerifiedObjects:
    """A bucket in which a key stands for the bytes of one digest."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def write(self, key: str, file: BinaryIO, digest: Digest, size: int) -> None:
        """Writes until the right bytes come back. Raises Unavailable, StorageFull."""
        failure = Unavailable(
            "the object storage does not give back what is stored in it; try again",
            code="storage_unavailable",
        )
        for _ in range(TRIES):
            file.seek(0)
            try:
                self._bucket.put(key, file)
                if self.holds(key, digest, size):
                    return
            except Unavailable as error:
                failure = error
        raise failure

    def holds(self, key: str, digest: Digest, size: int) -> bool:
        """Whether the object is there and reads right. Raises Unavailable."""
        try:
            return self.read(key, digest, size, None)
        except NotFound:
            return False

    def read(self, key: str, digest: Digest, size: int, into: BinaryIO | None) -> bool:
        """Whether the right bytes came, and lie in `into` then; other bytes are asked for again.

        Raises NotFound, OSError, and Unavailable where the last try was not answered in full.
        """
        failure: Unavailable | None = None
        for _ in range(TRIES):
            try:
                failure = None
                if self._read_once(key, size, into) == digest:
                    return True
            except Unavailable as error:
                failure = error
        if failure is not None:
            raise failure
        return False

    def manifest(self, key: str, digest: Digest) -> Manifest:
        """Raises NotFound, Rejected, Unavailable."""
        content = io.BytesIO()
        size = self._bucket.size(key)
        if size > MAX_MANIFEST_BYTES or not self.read(key, digest, size, content):
            raise damaged(MANIFEST_FILE, "is not the one that was published")
        return parse_manifest(content.getvalue(), digest)

    def _read_once(self, key: str, size: int, into: BinaryIO | None) -> Digest | None:
        running = RunningSha256()
        if into is not None:
            into.seek(0)
            into.truncate()
        if self._bucket.size(key) != size:
            return None
        for part in running.over(self._bucket.read(key, size)):
            if into is not None:
                into.write(part)
        return running.digest
