"""What requests have used is told once, whatever happens to the telling."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from adapters.domain.limits import Traffic, Usage
from adapters.domain.principals import Principal
from adapters.errors import Unavailable
from adapters.registry.ports import DayUsage, ProcessId, UsageKey, Used
from service.metrics import Metrics
from service.reconcile.usage_log import Prices, UsageLog

KEY = ("support", "support", "support:1", Traffic.INTERACTIVE)


class Ledger:
    """A registry that may be away, or take a batch and be away before it says so."""

    def __init__(self) -> None:
        self.away = False
        self.silent = False
        self.batches: dict[tuple[str, int], Sequence[tuple[UsageKey, Used]]] = {}
        self.told = 0

    def add(self, writer: str, batch: int, used: Sequence[tuple[UsageKey, Used]]) -> None:
        self.told += 1
        if self.away:
            raise Unavailable("away")
        assert self.batches.setdefault((writer, batch), used) == used, "a batch has changed"
        if self.silent:
            raise Unavailable("away before it said so")

    def days(self, principal: Principal, *, since: int, until: int) -> Sequence[DayUsage]:
        raise NotImplementedError

    def of_version(self, principal: Principal, version: str) -> Sequence[DayUsage]:
        raise NotImplementedError

    @property
    def requests(self) -> int:
        return sum(used.requests for batch in self.batches.values() for _, used in batch)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def log(ledger: Ledger) -> UsageLog:
    process = ProcessId(replica="one", incarnation="1")
    prices = Prices(prompt=2.0, completion=10.0)
    metrics = Metrics(CollectorRegistry())
    return UsageLog(ledger=ledger, process=process, prices=prices, metrics=metrics)


async def test_requests_of_one_key_are_one_row_with_their_cost(
    ledger: Ledger, log: UsageLog
) -> None:
    log.note(KEY, Usage(100, 10))
    log.note(KEY, Usage(50, 0))
    await log.tell()
    assert list(ledger.batches.values()) == [
        [
            (
                UsageKey(*KEY),
                Used(
                    requests=2,
                    prompt_tokens=150,
                    completion_tokens=10,
                    cost_nano=150 * 2000 + 10 * 10_000,
                ),
            )
        ]
    ]


async def test_nothing_new_is_not_told(ledger: Ledger, log: UsageLog) -> None:
    await log.tell()
    assert ledger.told == 0


@pytest.mark.parametrize("how", ["away", "silent"])
async def test_what_was_not_acknowledged_is_told_again_as_the_same_batch(
    ledger: Ledger, log: UsageLog, how: str
) -> None:
    log.note(KEY, Usage(1, 1))
    setattr(ledger, how, True)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await log.tell()
        log.note(KEY, Usage(1, 1))
    setattr(ledger, how, False)
    await log.finish()
    assert ledger.requests == 4
    assert len(ledger.batches) == 2
