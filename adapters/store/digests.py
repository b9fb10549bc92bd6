"""Checks digests that are addresses: their form before use, and bytes against them."""

from __future__ import annotations

from typing import BinaryIO

from adapters.domain.names import Digest
from adapters.errors import NotFound, Rejected
from adapters.hashing import is_digest, sha256_rest


def checked(digest: Digest) -> Digest:
    """The same digest. Raises NotFound for what is none."""
    if not is_digest(digest):
        raise NotFound("no such artifact")
    return digest


def check_bytes(file: BinaryIO, digest: Digest) -> None:
    """Reads a file to its end and goes back to its beginning. Raises Rejected, OSError."""
    if sha256_rest(file) != digest:
        raise damaged_file()
    file.seek(0)


def damaged_file() -> Rejected:
    """What is raised for a blob whose bytes are not those that were stored."""
    return Rejected("the stored file differs from its digest; upload it again", code="file_damaged")
