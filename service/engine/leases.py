"""Leases: how many requests of this process a version is answering right now.

Taken before a request enters the engine's handler and given back when its last byte is out; a
version is never unloaded while any process holds one. Within a process they are plain counters on
the event loop's thread; only the first of a version and the last touch the lock that the engine's
processes share.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Container
from typing import Self

from adapters.domain.names import VersionId
from service.engine.port import Engine
from service.engine.shared_residency import SharedResidency


class Lease:
    """One request's hold on a version; a context manager that gives it back."""

    __slots__ = ("_leases", "began", "version")

    def __init__(self, leases: Leases, version: VersionId | None) -> None:
        self._leases = leases
        self.version = version
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leases._give_back(self)  # noqa: SLF001 - two halves of one thing


class Leases:
    """Counts by version."""

    def __init__(self, residency: SharedResidency, engine: Engine) -> None:
        self._residency = residency
        self._engine = engine
        self._versions: Counter[VersionId] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self._given: dict[Lease, None] = {}
        """In the order in which they were taken."""

    @property
    def held(self) -> Container[VersionId]:
        """Versions that answer at least one request of this process."""
        return self._versions.keys()

    @property
    def total(self) -> int:
        """Requests in flight."""
        return len(self._given)

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest lease has been held; 0 where there is none."""
        oldest = next(iter(self._given), None)
        return 0.0 if oldest is None else time.monotonic() - oldest.began

    def take(self, version: VersionId | None) -> Lease | None:
        """A lease, or None when the engine does not hold the version now; None is the base model.

        There is no await in here: who has found a version resident has its lease at once.
        """
        if version is not None:
            if version in self._versions:
                self._versions[version] += 1
            elif version in self._engine.resident and self._residency.hold(version):
                self._versions[version] = 1
            else:
                return None
            self._residency.note_use(version)
        self._idle.clear()
        lease = Lease(self, version)
        self._given[lease] = None
        return lease

    def _give_back(self, lease: Lease) -> None:
        del self._given[lease]
        version = lease.version
        if version is not None:
            self._versions[version] -= 1
            if not self._versions[version]:
                del self._versions[version]
                self._residency.drop(version)
        if not self._given:
            self._idle.set()

    async def drained(self, timeout: float) -> bool:
        """Waits until nothing is in flight, at most `timeout` seconds."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True
