"""Remembers which directories were verified, and reads them again only when they changed."""

from __future__ import annotations

import threading
from pathlib import Path

from adapters.admission.manifest import verify
from adapters.domain.names import Digest
from adapters.errors import Rejected

_Print = tuple[tuple[str, int, int, int, int], ...]


class Verified:
    """Remembers, for the life of the process, what a verified directory looked like."""

    def __init__(self) -> None:
        self._prints: dict[Path, _Print] = {}
        self._lock = threading.Lock()

    def check(self, path: Path, digest: Digest) -> None:
        """Checks a directory byte by byte unless it is as it was then. Raises Rejected."""
        before = _print_of(path)
        with self._lock:
            if self._prints.get(path) == before:
                return
        verify(path, digest)
        with self._lock:
            self._prints[path] = before

    def forget(self, path: Path) -> None:
        """Drops what is known of a directory that is gone."""
        with self._lock:
            self._prints.pop(path, None)


def _print_of(directory: Path) -> _Print:
    """What tells whether a directory was touched: name, inode, size and times of every file."""
    try:
        found = []
        for path in sorted(directory.iterdir()):
            seen = path.lstat()
            found.append((path.name, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))
        return tuple(found)
    except OSError as error:
        raise Rejected("what was published cannot be read", code="adapter_damaged") from error
