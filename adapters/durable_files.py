"""Writes that survive a power cut: on disk when they return, and visible whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from adapters.file_locks import lock


def sync(path: Path) -> None:
    """Makes a file's bytes, or a directory's names, survive a power cut. Raises OSError.

    An error is final for the attempt: after a failed fsync the kernel may call pages clean that
    never reached the disk, so trying again on them proves nothing.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """`sync` for every file of a flat folder, then for the folder itself. Raises OSError."""
    for path in (*folder.iterdir(), folder):
        sync(path)


def write_new(path: Path, chunks: Iterable[bytes], *, read_only: bool = False) -> None:
    """Writes a file that must not exist yet, for its owner alone or `read_only` for everybody.

    Its name is durable once its folder is synced. Raises FileExistsError, OSError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(chunks)
        file.flush()
        if read_only:
            os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())


def write_private(path: Path, content: bytes, *, overwrite: bool = True) -> None:
    """Writes a 0600 file durably, whole or not at all; `overwrite=False` leaves an existing one.

    Raises OSError.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    staged = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        if _is_locked(folder):
            _remove_leftovers(path)
        try:
            write_new(staged, [content])
            if overwrite:
                staged.replace(path)
            else:
                with suppress(FileExistsError):
                    os.link(staged, path)
        finally:
            staged.unlink(missing_ok=True)
        os.fsync(folder)
    finally:
        os.close(folder)


def _is_locked(folder: int) -> bool:
    """Whether, until `folder` is closed, no other `write_private` is at work in it.

    Some network file systems lock no folders: writing goes on there, tidying does not.
    """
    try:
        lock(folder)
    except OSError:
        return False
    return True


def _remove_leftovers(path: Path) -> None:
    """What killed writers of `path` left: nobody else writes now, and it may hold secrets."""
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{12}}")
    for found in path.parent.iterdir():
        if leftover.fullmatch(found.name):
            found.unlink(missing_ok=True)
