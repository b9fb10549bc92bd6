"""Adds up what requests have used, and tells the registry every two seconds.

No request waits for it. What was not told yet is lost with a process that is killed, never more
than two seconds of it while the registry answers; a process that ends cleanly tells the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.domain.limits import Traffic, Usage
from adapters.registry.ports import ProcessId, UsageKey, UsageLedger, Used
from service.metrics import Metrics
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat

TELL_SECONDS = 2.0
_MILLION_PER_NANO = 1000
"""A price for a million tokens is a thousand times as many billionths for one."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Of the base that this replica serves, for a million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost_nano(self, usage: Usage) -> int:
        """In billionths of the currency."""
        cost = usage.prompt * self.prompt + usage.completion * self.completion
        return round(cost * _MILLION_PER_NANO)


class UsageLog:
    """What this process's requests have used and the registry does not know of."""

    def __init__(
        self, *, ledger: UsageLedger, process: ProcessId, prices: Prices, metrics: Metrics
    ) -> None:
        self._ledger = ledger
        self._writer = f"{process.replica}/{process.incarnation}/{process.number}"
        self._prices = prices
        self._open: dict[tuple[str, str, str, Traffic], tuple[int, int, int]] = {}
        """Requests, tokens of prompts and of answers."""
        self._telling: Sequence[tuple[UsageKey, Used]] = ()
        self._batch = 0
        self._calls = RegistryCalls("usage")
        self.repeat = Repeat("usage", self.tell, every=TELL_SECONDS, metrics=metrics)

    def note(self, key: tuple[str, str, str, Traffic], usage: Usage) -> None:
        """One request more; `key` is a UsageKey's."""
        requests, prompt, completion = self._open.get(key, (0, 0, 0))
        self._open[key] = (requests + 1, prompt + usage.prompt, completion + usage.completion)

    async def tell(self) -> bool:
        """Tells what is new. A batch whose answer was lost is told again, as the same batch."""
        if not self._telling:
            if not self._open:
                return False
            self._telling = [
                (UsageKey(*key), self._used(*sums)) for key, sums in self._open.items()
            ]
            self._open = {}
            self._batch += 1
        await self._calls(self._ledger.add, self._writer, self._batch, self._telling)
        self._telling = ()
        return False

    async def finish(self) -> None:
        """Tells the rest, at a clean exit."""
        await self.tell()
        await self.tell()  # what came while a batch was not acknowledged

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()

    def _used(self, requests: int, prompt: int, completion: int) -> Used:
        cost = self._prices.cost_nano(Usage(prompt=prompt, completion=completion))
        return Used(
            requests=requests,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_nano=cost,
        )
