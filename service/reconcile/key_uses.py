"""Remembers which keys were used, and tells the registry now and then.

A use costs a request one entry in a set. What was not told when a process ends is lost: the time of
a key's last use is for finding keys that nobody needs, and coarse.
"""

from __future__ import annotations

from adapters.registry.ports import Keys
from service.metrics import Metrics
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat

TELL_SECONDS = 300.0


class KeyUses:
    """Used on the event loop's thread."""

    def __init__(self, *, keys: Keys, metrics: Metrics) -> None:
        self._keys = keys
        self._calls = RegistryCalls("key_uses")
        self._used: set[str] = set()
        self.repeat = Repeat("key_uses", self.step, every=TELL_SECONDS, metrics=metrics)

    def note(self, key_id: str) -> None:
        """A request came with this key."""
        self._used.add(key_id)

    async def step(self) -> None:
        """Tells what was used since."""
        used, self._used = self._used, set()
        if used:
            try:
                await self._calls(self._keys.note_used, sorted(used))
            except Exception:
                self._used |= used
                raise

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()
