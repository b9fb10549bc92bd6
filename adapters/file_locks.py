"""Locks between the processes of one machine: the kernel unlocks a file when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock file `path` while the body runs; blocks while another holds it.

    The file is made for it and removed afterwards. Raises OSError.
    """
    descriptor = open_locked(path)
    try:
        yield
    finally:
        remove_locked(descriptor, path)
        os.close(descriptor)


def open_locked(path: Path, *, shared: bool = False) -> int:
    """A descriptor that holds the lock file `path`, made where needed. Blocks; raises OSError."""
    return _locked(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def try_open_locked(path: Path) -> int | None:
    """As `open_locked`, exclusive; None at once where another holds it. Raises OSError."""
    try:
        return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def lock(descriptor: int) -> None:
    """Locks an open file or folder exclusively until it is closed. Blocks; raises OSError."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def try_lock(descriptor: int) -> bool:
    """As `lock`; False at once where another holds it. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_locked(descriptor: int, path: Path) -> None:
    """Removes a lock file. Only who holds it alone may, and only where it is still this file."""
    if _is_at(descriptor, path):
        path.unlink(missing_ok=True)


def _locked(path: Path, how: int) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, how)
            # Whoever had the lock before may have removed the file; that lock excludes nobody.
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
