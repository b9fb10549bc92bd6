"""Where the lines of requests go: to where this process prints, unless nobody empties that.

What a container or a service manager collects is theirs to bound. A file that `wardrobe up` prints
into only grows while it runs, so there the lines have files of their own, of which the oldest goes.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

MOST_BYTES = 64 * 1024 * 1024
"""Of one file; some 200,000 requests."""
OLDER = 4
"""Files kept beside the one that is written."""

Write = Callable[[str], None]


def log_target(file: Path) -> Write:
    """Writes text of whole lines; to `file` where standard error is a file."""
    return RotatedFile(file) if _is_file(sys.stderr) else _print


def _print(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # a stream without a descriptor
        return False


class RotatedFile:
    """`requests-0.log`, `requests-0.log.1`, …; written by one process."""

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._path = path
        self._most = most_bytes

    def __call__(self, text: str) -> None:
        """Raises OSError where there is no room for it."""
        if self._path.exists() and self._path.stat().st_size >= self._most:
            self._rotate()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)

    def _rotate(self) -> None:
        for number in range(OLDER, 0, -1):
            newer = self._path if number == 1 else self._older(number - 1)
            if newer.exists():
                newer.replace(self._older(number))

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
