"""SHA-256, the one hash that names content: of bytes, of files, and of what streams by."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from adapters.domain.names import Digest

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 as this module writes them."""
    return _DIGEST.fullmatch(text) is not None


def sha256_bytes(content: bytes) -> Digest:
    """The digest of these bytes."""
    return Digest(hashlib.sha256(content).hexdigest())


def sha256_file(path: Path) -> Digest:
    """The digest of a file's bytes, read in pieces; a link is followed. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return sha256_rest(file)


def sha256_rest(file: BinaryIO) -> Digest:
    """The digest of what is left to read of an open file. Raises OSError."""
    running = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        running.update(chunk)
    return Digest(running.hexdigest())


class RunningSha256:
    """Digest and size of bytes that come in pieces."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> Digest:
        """Of all pieces so far."""
        return Digest(self._hash.hexdigest())

    def over(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Counts the pieces while it hands them on."""
        for chunk in chunks:
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk
