"""Deletes, every ten minutes, what nobody may name any more: from the registry and the store.

A low-rate task of the engine's loader process. Every replica may run it: repeating it at once finds
nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from adapters.registry.ports import Collection, Retention
from service.metrics import Metrics
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat

COLLECT_SECONDS = 600.0
LOOK_SECONDS = 10.0
"""Between two looks whether it is time: at its start no process is the loader yet."""
STORE_SECONDS = 300.0

log = structlog.get_logger("wardrobe.collection")


class CollectionLoop:
    """Starts a collection now and then, in the one process of an engine that collects."""

    def __init__(
        self,
        *,
        collection: Collection,
        retention: Retention,
        collect_store: Callable[[], object] | None,
        is_owner: Callable[[], bool],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`collect_store` blocks; it deletes the bytes that the registry no longer names."""
        self._collection = collection
        self._retention = retention
        self._collect_store = collect_store
        self._is_owner = is_owner
        self._calls = RegistryCalls("collection", seconds=60.0)
        self._store_calls = RegistryCalls("store-collection", seconds=STORE_SECONDS)
        self._clock = clock
        self._due = 0.0
        self.repeat = Repeat("collection", self.step, every=LOOK_SECONDS, metrics=metrics)

    async def step(self) -> None:
        """One round, where it is time and this process is the one that collects."""
        now = self._clock()
        if now < self._due or not self._is_owner():
            return
        self._due = now + COLLECT_SECONDS
        counts = await self._calls(self._collection.collect, self._retention)
        if any(counts.values()):
            log.info("collected", **{str(kind): count for kind, count in counts.items()})
        if self._collect_store is not None:
            await self._store_calls(self._collect_store)

    def close(self) -> None:
        """Lets go of the threads."""
        self._calls.close()
        self._store_calls.close()
