"""Keeps an issuer's public keys: an owner with a step of its own, as the route cache is.

They are read every few minutes, and when a token names one that is not known: at most once in a
while, however many tokens do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from service.metrics import Metrics
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat
from service.tokens.key_set import DEADLINE_SECONDS, PublicKeys

READ_SECONDS = 300.0
MISS_SECONDS = 10.0
"""Between two looks for keys that nobody knows."""
STALE_SECONDS = 24 * 3600.0
"""How long keys are believed whose issuer cannot be asked."""


class IssuerKeys:
    """Used on the event loop's thread; fetching has a thread of its own."""

    def __init__(
        self,
        fetch: Callable[[], PublicKeys],
        *,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._calls = RegistryCalls("issuer", seconds=3 * DEADLINE_SECONDS)
        self._keys: PublicKeys = {}
        self._read_at: float | None = None
        self._looked_at = -MISS_SECONDS
        self._looking = False
        self.generation = 0
        """Counts the changes: what was verified by keys of before must be verified again."""
        self.repeat = Repeat("issuer_keys", self.step, every=READ_SECONDS, metrics=metrics)

    async def step(self) -> bool:
        """One look. Raises what `fetch` raises."""
        self._looking, self._looked_at = True, self._clock()
        try:
            keys = await self._calls(self._fetch)
        finally:
            self._looking = False
        self._read_at = self._clock()
        if keys != self._keys:
            self._keys = keys
            self.generation += 1
        return False

    @property
    def readable(self) -> bool:
        """Whether there are keys that may be believed."""
        return self._read_at is not None and self._clock() - self._read_at < STALE_SECONDS

    def get(self, kid: str) -> Any:
        """The public key of this id, or None."""
        return self._keys.get(kid) if self.readable else None

    def look_for_more(self) -> bool:
        """Whether a look is under way whose end is worth waiting for; begins one now and then."""
        if not self._looking and self._clock() - self._looked_at >= MISS_SECONDS:
            self._looking, self._looked_at = True, self._clock()
            self.repeat.kick()
        return self._looking

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()
