"""Leases: how many requests a version is answering right now.

Taken before a request enters the engine's handler and given back when its last byte is out; a
version is never unloaded while one is held. Everything happens on the event loop's thread, so
plain integers are enough.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from adapters.domain.names import VersionId

K = TypeVar("K")


class Leases:
    """Counts by version, and by unit for its limit on requests in flight."""

    def __init__(self) -> None:
        self._versions: Counter[VersionId] = Counter()
        self._units: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self._total = 0

    @property
    def held(self) -> frozenset[VersionId]:
        """Versions that answer at least one request."""
        return frozenset(version for version, count in self._versions.items() if count)

    @property
    def total(self) -> int:
        """Requests in flight."""
        return self._total

    def of_unit(self, unit: str) -> int:
        """Requests of `unit` in flight."""
        return self._units[unit]

    @contextmanager
    def hold(self, version: VersionId | None, unit: str) -> Iterator[None]:
        """Holds a lease while the body runs; `version=None` is the base model."""
        self._total += 1
        self._idle.clear()
        self._units[unit] += 1
        if version is not None:
            self._versions[version] += 1
        try:
            yield
        finally:
            self._total -= 1
            _drop(self._units, unit)
            if version is not None:
                _drop(self._versions, version)
            if not self._total:
                self._idle.set()

    async def drained(self, timeout: float) -> bool:
        """Waits until nothing is in flight, at most `timeout` seconds."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True


def _drop(counter: Counter[K], key: K) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
