"""Locks single bytes of a file between processes, without waiting.

Such a lock belongs to an open file description: the kernel drops it with the last descriptor of
it, so a process that is killed leaves none behind, and one process that opens a file twice has
two owners.
"""

from __future__ import annotations

import fcntl
import os
import struct

SHARED, EXCLUSIVE = fcntl.F_RDLCK, fcntl.F_WRLCK

_FLOCK = struct.Struct("hhqqi")
"""`struct flock` of 64-bit Linux: type, whence, start, length, pid."""


def try_lock(descriptor: int, kind: int, start: int) -> bool:
    """Takes the lock of one byte, `SHARED` or `EXCLUSIVE`; False when another's stands against it.

    Raises OSError for what is no such file.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, 1, 0))
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as the system likes
        return False
    return True


def unlock(descriptor: int, start: int) -> None:
    """Gives it back; not held is fine."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, start, 1, 0))


def is_free(descriptor: int, start: int) -> bool:
    """Whether nobody else holds a lock of the byte; takes none."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0)
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    return bool(_FLOCK.unpack(answer)[0] == fcntl.F_UNLCK)
