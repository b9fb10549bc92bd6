"""Hears the registry's hints, so that a change is routed by before the next poll.

Only a hint: one that is lost costs a poll's interval, never a change.
"""

from __future__ import annotations

from collections.abc import Callable

from adapters.registry.ports import Hints
from service.metrics import Metrics
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat

WAIT_SECONDS = 5.0
RETRY_SECONDS = 1.0


class HintListener:
    """Waits for hints in a thread of its own."""

    def __init__(self, hints: Hints, *, on_hint: Callable[[], None], metrics: Metrics) -> None:
        self._hints = hints
        self._on_hint = on_hint
        self._calls = RegistryCalls("hints", seconds=4 * WAIT_SECONDS)
        self.repeat = Repeat("hints", self.step, every=RETRY_SECONDS, metrics=metrics)

    async def step(self) -> bool:
        """One wait."""
        if await self._calls(self._hints.wait, WAIT_SECONDS):
            self._on_hint()
            return True
        return False

    def stop(self) -> None:
        """Ends the wait under way."""
        self.repeat.stop()
        self._hints.close()

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()
