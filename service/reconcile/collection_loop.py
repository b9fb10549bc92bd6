"""Deletes, every ten minutes, what nobody may name any more: from the registry and the store.

A low-rate task of the engine's loader process. Every replica may run it: repeating it at once finds
nothing more.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from adapters.registry.ports import Collection, Retention
from service.metrics import Metrics
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat

COLLECT_SECONDS = 600.0
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
    ) -> None:
        """`collect_store` blocks; it deletes the bytes that the registry no longer names."""
        self._collection = collection
        self._retention = retention
        self._collect_store = collect_store
        self._is_owner = is_owner
        self._calls = RegistryCalls("collection", seconds=60.0)
        self._store_calls = RegistryCalls("store-collection", seconds=STORE_SECONDS)
        self.repeat = Repeat("collection", self.step, every=COLLECT_SECONDS, metrics=metrics)

    async def step(self) -> None:
        """One round, where this process is the one that collects."""
        if not self._is_owner():
            return
        counts = await self._calls(self._collection.collect, self._retention)
        if any(counts.values()):
            log.info("collected", **{str(kind): count for kind, count in counts.items()})
        if self._collect_store is not None:
            await self._store_calls(self._collect_store)

    def close(self) -> None:
        """Lets go of the threads."""
        self._calls.close()
        self._store_calls.close()
