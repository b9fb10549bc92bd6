"""Load requests: inference requests that wait until the loader has made their version resident."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adapters.domain.names import VersionId
from adapters.domain.versions import ServedVersion
from adapters.errors import EngineUnavailable, RateLimited
from service.engine.port import Engine
from service.engine.shared_residency import SharedResidency
from service.reconcile.load_failures import LoadFailures
from service.reconcile.route_table import RouteTable

LOAD_TIMEOUT = 60.0
"""Seconds a request waits for its version to be loaded."""
COLD_LOADS = 4
"""Versions of one unit, beside those of its routes, that requests may wait for at once."""


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
        self._changed = asyncio.Condition()

    @property
    def waiting(self) -> bool:
        """Whether any request waits."""
        return bool(self._waiters)

    async def wait(self, version: ServedVersion) -> None:
        """Waits until `version` answers; all who wait for it share one load.

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
        """Something was loaded, or was found not to be loadable."""
        async with self._changed:
            self._changed.notify_all()

    def _is_here(self, version: ServedVersion) -> bool:
        return version.id in self._engine.resident and self._residency.is_resident(version.id)

    def _is_settled(self, version: ServedVersion) -> bool:
        return self._is_here(version) or self._failures.is_refused(version)

    @contextmanager
    def _asking(self, version: ServedVersion) -> Iterator[None]:
        if not self._waiters[version.id]:
            self._check_cold(version)
            self._residency.ask(version.id)
        self._waiters[version.id] += 1
        try:
            yield
        finally:
            self._waiters[version.id] -= 1
            if not self._waiters[version.id]:
                del self._waiters[version.id]
                self._residency.withdraw(version.id)

    def _check_cold(self, version: ServedVersion) -> None:
        if version in self._table.required():
            return
        cold = sum(
            1
            for waited in self._waiters
            if (known := self._table.version(waited)) is not None and known.unit == version.unit
        )
        if cold >= COLD_LOADS:
            raise RateLimited(
                f"more than {COLD_LOADS} versions of this unit wait to be loaded", param="model"
            )
