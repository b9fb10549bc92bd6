"""Counts every unit's requests for its limit, over all API processes in front of one engine.

One small file that every process maps, made anew for each life of an engine: a row a unit, with the
digest of its name and a count for each process. A process writes its own counts and adds up all
of them, so a request costs neither a lock nor a system call; only the first of a unit looks for the
unit's row, under a lock. When one process of an engine has died, vLLM ends them all: no count
outlives its process.

All of one process's calls come from its event loop's thread.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import Counter
from pathlib import Path
from typing import Self

from adapters.errors import EngineUnavailable, RateLimited
from adapters.file_locks import open_locked
from service.engine.shared_file import map_shared
from service.engine.shared_residency import MAX_PROCESSES

MAX_UNITS = 4096
"""Names in one life of an engine, deleted units included."""

_NAME_BYTES = 16
_COUNTS, _COUNT = struct.Struct(f"{MAX_PROCESSES}i"), struct.Struct("i")
_ROW = _NAME_BYTES + _COUNTS.size


class Place:
    """One request's place among its unit's; a context manager that gives it back."""

    __slots__ = ("_places", "_unit")

    def __init__(self, places: UnitPlaces, unit: str) -> None:
        self._places = places
        self._unit = unit

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._places._count(self._unit, -1)  # noqa: SLF001 - two halves of one thing


class UnitPlaces:
    """One process's view of the places that its engine's requests hold."""

    def __init__(self, path: Path, *, process: int = 0) -> None:
        """Makes the file where needed. Raises OSError."""
        self._path = path
        self._map = map_shared(path, MAX_UNITS * _ROW)
        self._own = _NAME_BYTES + process * _COUNT.size
        self._mine: Counter[str] = Counter()
        self._rows: dict[str, int] = {}

    def of(self, unit: str) -> int:
        """Requests of `unit` in flight or waiting for their version, in all processes."""
        return sum(_COUNTS.unpack_from(self._map, self._row(unit) + _NAME_BYTES))

    def take(self, unit: str, limit: int | None) -> Place:
        """A place for one request, from before it waits for a load until its last byte.

        Raises RateLimited when the unit has `limit` already. A process counts before it looks: two
        that want the last place at once may both be refused, but never both have it.
        """
        self._count(unit, +1)
        if limit is not None and self.of(unit) > limit:
            self._count(unit, -1)
            raise RateLimited(f"more than {limit} requests at once for this unit")
        return Place(self, unit)

    def close(self) -> None:
        """Lets go of the file; further calls are undefined."""
        self._map.close()

    def _count(self, unit: str, change: int) -> None:
        row = self._row(unit)
        self._mine[unit] += change
        _COUNT.pack_into(self._map, row + self._own, self._mine[unit])

    def _row(self, unit: str) -> int:
        row = self._rows.get(unit)
        if row is None:
            row = self._rows[unit] = self._found_or_made(unit)
        return row

    def _found_or_made(self, unit: str) -> int:
        name = hashlib.blake2b(unit.encode(), digest_size=_NAME_BYTES).digest()
        lock = open_locked(self._path)
        try:
            for row in range(0, MAX_UNITS * _ROW, _ROW):
                known = self._map[row : row + _NAME_BYTES]
                if known == name:
                    return row
                if not any(known):
                    self._map[row : row + _NAME_BYTES] = name
                    return row
        finally:
            os.close(lock)
        raise EngineUnavailable("there are more units than one engine can tell apart")
