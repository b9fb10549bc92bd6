"""Load requests: inference requests that wait until the loader has made their version resident."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adapters.domain.names import Unit, VersionId
from adapters.domain.versions import ServedVersion
from adapters.errors import EngineUnavailable, RateLimited
from service.engine.port import Engine
from service.engine.shared_residency import SharedResidency
from service.reconcile.load_failures import LoadFailures
from service.reconcile.route_table import RouteTable

LOAD_TIMEOUT = 60.0
"""Seconds a request waits for its version to be loaded."""
COLD_LOADS = 4
"""Versions of one unit, beside those of its routes, that all requests of an engine may wait for at
once.
"""


class LoadRequests:
    """What requests of this process wait for; the loader hears of it through the residency."""

    def __init__(
        self,
        *,
        table: RouteTable,
        engine: Engine,
        residency: SharedResidency,
        failures: LoadFailures,
        on_asked: Callable[[], None],
    ) -> None:
        self._table = table
        self._engine = engine
        self._residency = residency
        self._failures = failures
        self._on_asked = on_asked
        self._waiters: Counter[VersionId] = Counter()
        self._cold: set[VersionId] = set()
        """Those of them that the loader is asked for: what routes need, it loads unasked."""
        self._needed: frozenset[VersionId] = frozenset()
        self._changed = asyncio.Condition()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._waiters.total()

    async def wait(self, version: ServedVersion) -> None:
        """Waits until `version` answers; all who wait for it share one load. Also ends when a route
        that needed it has moved on: whoever still wants it asks again.

        Raises Conflict (`base_mismatch`) when it never will, Unavailable (`version_unavailable`)
        when it cannot be loaded now, RateLimited when its unit waits for too many, and
        EngineUnavailable when it takes too long.
        """
        self._failures.check(version)
        self._residency.note_use(version.id)
        if self._is_here(version):
            return
        with self._asking(version):
            self._on_asked()
            try:
                async with asyncio.timeout(LOAD_TIMEOUT), self._changed:
                    await self._changed.wait_for(lambda: self._is_settled(version))
            except TimeoutError:
                raise EngineUnavailable(
                    f"no slot became free for {version.name}", param="model"
                ) from None
        self._failures.check(version)

    async def look_again(self) -> None:
        """Something was loaded, was found not to be loadable, or is needed no more."""
        self._note_needed()
        async with self._changed:
            self._changed.notify_all()

    def _is_here(self, version: ServedVersion) -> bool:
        return version.id in self._engine.resident and self._residency.is_resident(version.id)

    def _is_settled(self, version: ServedVersion) -> bool:
        is_expected = version.id in self._cold or version.id in self._needed
        return not is_expected or self._is_here(version) or self._failures.is_refused(version)

    @contextmanager
    def _asking(self, version: ServedVersion) -> Iterator[None]:
        self._note_needed()
        if version.id not in self._needed and version.id not in self._cold:
            self._ask(version)
        self._waiters[version.id] += 1
        try:
            yield
        finally:
            self._waiters[version.id] -= 1
            if not self._waiters[version.id]:
                del self._waiters[version.id]
                self._cold.discard(version.id)
                self._residency.withdraw(version.id)

    def _note_needed(self) -> None:
        """Once for all who wait: it costs as much as there are routes."""
        self._needed = frozenset(version.id for version in self._table.required())

    def _ask(self, version: ServedVersion) -> None:
        """Asks the loader for a version that no route needs. Raises RateLimited, EngineUnavailable.

        It asks before it counts: two processes that want a unit's last place at once may both be
        refused, but never both have it.
        """
        is_shared = version.id in self._residency.asked()
        self._residency.ask(version.id)
        if not is_shared and self._cold_of(version.unit) > COLD_LOADS:
            self._residency.withdraw(version.id)
            raise RateLimited(
                f"more than {COLD_LOADS} versions of this unit wait to be loaded", param="model"
            )
        self._cold.add(version.id)

    def _cold_of(self, unit: Unit) -> int:
        """Versions of `unit` that requests of any process wait for, beside those of its routes."""
        asked = map(self._table.version, self._residency.asked() - self._needed)
        return sum(1 for known in asked if known is not None and known.unit == unit)
