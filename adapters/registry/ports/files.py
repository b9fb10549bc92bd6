"""Uploaded files and results; their bytes are in the artifact store under `digest`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from adapters.domain.files import StoredFile
from adapters.domain.names import Digest, FileId, Unit
from adapters.domain.pages import Page
from adapters.domain.principals import Principal


@dataclass(frozen=True, kw_only=True)
class NewFile:
    """A file whose bytes are in the store; the registry gives the time."""

    id: FileId
    unit: Unit
    filename: str
    purpose: str
    size_bytes: int
    digest: Digest
    lifetime: int | None = None
    """Seconds after which it goes by itself; None keeps it until it is deleted."""


class Files(Protocol):
    """Keeps the records of a unit's files."""

    def add(self, file: NewFile, *, by: Principal) -> StoredFile:
        """Raises Conflict, and Condemned while the digest is collected.

        Whoever adds then waits and tries again, as `adapters.store.recording` does.
        """
        ...

    def get(self, file_id: FileId, principal: Principal) -> StoredFile:
        """Raises NotFound when unknown, deleted, expired or another unit's. What an unfinished job
        names does not expire before that has ended.
        """
        ...

    def list(
        self,
        principal: Principal,
        *,
        purpose: str | None,
        after: str | None,
        limit: int,
        newest_first: bool,
    ) -> Page[StoredFile]:
        """By upload. `after` is a file's id; it works although that file was deleted meanwhile."""
        ...

    def delete(self, file_id: FileId, principal: Principal, *, reason: str | None = None) -> None:
        """Forgets a file; its bytes are collected later.

        Raises NotFound, and Conflict (`file_in_use`) while an unfinished job names the file.
        """
        ...
