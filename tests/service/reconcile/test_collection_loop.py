"""When a process collects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from adapters.registry.ports import Retention
from service.metrics import Metrics
from service.reconcile.collection_loop import COLLECT_SECONDS, CollectionLoop


class Counted:
    """A registry's collection that has nothing to collect."""

    def __init__(self) -> None:
        self.rounds = 0

    def collect(self, retention: Retention) -> dict[str, int]:
        self.rounds += 1
        return {}

    def roots(self) -> frozenset[str]:
        return frozenset()

    condemn = clear = clear_abandoned = roots


class Process:
    """A process at a time, which may be the loader."""

    def __init__(self) -> None:
        self.now, self.is_loader = 0.0, False
        self.collection, self.stores = Counted(), 0
        self.loop = CollectionLoop(
            collection=self.collection,  # type: ignore[arg-type]
            retention=Retention(),
            collect_store=self._collect_store,
            is_owner=lambda: self.is_loader,
            metrics=Metrics(CollectorRegistry()),
            clock=lambda: self.now,
        )

    def _collect_store(self) -> None:
        self.stores += 1


@pytest.fixture
def process() -> Iterator[Process]:
    made = Process()
    yield made
    made.loop.close()


async def test_who_becomes_the_loader_a_moment_after_its_start_collects_then(
    process: Process,
) -> None:
    await process.loop.step()
    assert process.collection.rounds == 0
    process.is_loader, process.now = True, 10.0
    await process.loop.step()
    assert (process.collection.rounds, process.stores) == (1, 1)


async def test_it_collects_every_ten_minutes_and_not_more_often(process: Process) -> None:
    process.is_loader = True
    for process.now in (0.0, 10.0, COLLECT_SECONDS - 1, COLLECT_SECONDS, COLLECT_SECONDS + 1):
        await process.loop.step()
    assert process.collection.rounds == 2
