"""Digests as addresses: what is none never becomes a path or a key, and bytes prove theirs."""

from __future__ import annotations

import hashlib
import re
from typing import BinaryIO

from adapters.domain.names import Digest
from adapters.errors import NotFound, Rejected

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 as this code writes them."""
    return _DIGEST.fullmatch(text) is not None


def checked(digest: Digest) -> Digest:
    """The same digest. Raises NotFound for what is none."""
    if not is_digest(digest):
        raise NotFound("no such artifact")
    return digest


def check_bytes(file: BinaryIO, digest: Digest) -> None:
    """Reads a file to its end and goes back to its beginning. Raises Rejected, OSError."""
    running = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        running.update(chunk)
    if running.hexdigest() != digest:
        raise damaged_file()
    file.seek(0)


def damaged_file() -> Rejected:
    """What is raised for a blob whose bytes are not those that were stored."""
    return Rejected("the stored file differs from its digest; upload it again", code="file_damaged")
