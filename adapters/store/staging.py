"""Staging: where artifacts are written before they are visible.

An entry of the staging folder belongs to the process that made it until it is renamed away. What a
killed process left there is swept once it is older than any publish could be.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from adapters.admission.manifest import ManifestEntry
from adapters.durable_files import write_new
from adapters.errors import StorageFull, TooLarge
from adapters.hashing import RunningSha256

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def staged(staging: Path) -> Iterator[Path]:
    """A fresh name in `staging`; whatever is still there at the end is removed.

    Raises StorageFull where the disk or quota has no room.
    """
    path = staging / secrets.token_hex(16)
    with room_needed():
        try:
            yield path
        finally:
            remove(path)


@contextmanager
def room_needed() -> Iterator[None]:
    """Raises StorageFull where the body meets a disk or quota without room."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull("there is no room left for artifacts; free some") from error
        raise


def limited(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """The same chunks. Raises TooLarge past `max_bytes`."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge(f"more than the {max_bytes} bytes allowed")
        yield chunk


def sweep(staging: Path, *, older_than_s: float) -> None:
    """Removes leftovers whose newest change is older than `older_than_s` seconds."""
    deadline = time.time() - older_than_s
    for entry in staging.iterdir():
        if _newest_change(entry) < deadline:
            remove(entry)


def remove(path: Path) -> None:
    """Removes a file or a directory, read-only ones too; what is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        with suppress(FileNotFoundError):  # another sweeper may be at it
            path.chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_entry(path: Path, chunks: Iterable[bytes]) -> ManifestEntry:
    """Writes a new read-only file durably; the answer is what was written. Raises OSError."""
    running = RunningSha256()
    write_new(path, running.over(chunks), read_only=True)
    return ManifestEntry(name=path.name, size=running.size, sha256=running.digest)


def opened(path: Path) -> BinaryIO:
    """A file to store; a link is not followed. Raises OSError."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")


def read_chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes, piece by piece; a link is not followed. Raises OSError."""
    with opened(path) as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _newest_change(entry: Path) -> float:
    try:
        inside = list(entry.iterdir()) if entry.is_dir() and not entry.is_symlink() else []
        return max(path.lstat().st_mtime for path in (entry, *inside))
    except FileNotFoundError:
        return time.time()  # its owner just renamed it away
