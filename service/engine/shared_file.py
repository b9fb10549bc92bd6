"""Maps a file that all API processes of an engine write to."""

from __future__ import annotations

import mmap
import os
from pathlib import Path


def open_shared(path: Path, size: int) -> int:
    """A descriptor of the file, made where needed, with room on the disk for all of it.

    Whoever writes to a mapped page for which a full disk has no room is killed by SIGBUS, and all
    processes of the engine with it. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def map_shared(path: Path, size: int) -> mmap.mmap:
    """The whole file as memory. Raises OSError."""
    descriptor = open_shared(path, size)
    try:
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
