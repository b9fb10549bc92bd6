"""Counts who uses an artifact, across the processes of one machine, so that nobody removes it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.domain.names import Digest
from adapters.file_locks import open_locked, remove_locked, try_lock, try_open_locked


class Pins:
    """Counts who uses which artifact; a process that does holds a lock on `folder/<digest>`."""

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
                pin = _Pin(open_locked(self._folder / digest, shared=True))
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
        descriptor = try_open_locked(path)
        if descriptor is None:
            yield False
            return
        try:
            yield True
        finally:
            remove_locked(descriptor, path)
            os.close(descriptor)

    def _close(self, descriptor: int, path: Path) -> None:
        try:
            if try_lock(descriptor):  # else another process has pinned it and is to remove it
                remove_locked(descriptor, path)
        finally:
            os.close(descriptor)


@dataclass
class _Pin:
    descriptor: int
    count: int = 0
