"""Locks between processes on one machine: files that the kernel unlocks when their holder dies."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.domain.names import Digest


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock file `path` while the body runs; blocks while another holds it."""
    descriptor = _locked(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        _remove(descriptor, path)
        os.close(descriptor)


class Pins:
    """Who uses which artifact: a shared lock a process on `folder/<digest>`, counted in it."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder where needed. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._held: dict[Digest, _Pin] = {}
        self._lock = threading.Lock()

    def pin(self, digest: Digest) -> None:
        """Counts one more use; blocks while `unused` of this digest runs. Raises OSError."""
        with self._lock:
            pin = self._held.get(digest)
            if pin is None:
                pin = _Pin(_locked(self._folder / digest, fcntl.LOCK_SH))
                self._held[digest] = pin
            pin.count += 1

    def release(self, digest: Digest) -> None:
        """Counts one use less. Raises ValueError when there is none."""
        with self._lock:
            pin = self._held.get(digest)
            if pin is None:
                raise ValueError("released more often than pinned")
            pin.count -= 1
            if pin.count == 0:
                del self._held[digest]
                self._close(pin.descriptor, self._folder / digest)

    @contextmanager
    def unused(self, digest: Digest) -> Iterator[bool]:
        """Whether no process uses it; while the body runs, none can begin to. Never waits."""
        path = self._folder / digest
        descriptor = _try_locked(path)
        if descriptor is None:
            yield False
            return
        try:
            yield True
        finally:
            _remove(descriptor, path)
            os.close(descriptor)

    def _close(self, descriptor: int, path: Path) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(descriptor, path)
        except BlockingIOError:
            pass  # another process has pinned it: the file is its to remove
        finally:
            os.close(descriptor)


@dataclass
class _Pin:
    descriptor: int
    count: int = 0


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


def _try_locked(path: Path) -> int | None:
    try:
        return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _remove(descriptor: int, path: Path) -> None:
    """Removes a lock file. Only who holds it alone may, and only where it is still this file."""
    if _is_at(descriptor, path):
        path.unlink(missing_ok=True)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
