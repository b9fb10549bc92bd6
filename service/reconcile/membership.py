"""Decides whether this process may admit requests, as far as the registry has a say.

It may once it is registered and has observed the very revision it routes by; a replica that was
retired or replaced registers and observes again first. One that stops on loss may no longer once
its serving lease has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from adapters.registry.ports import ProcessId, Registration


class Membership:
    """Kept by the heartbeat and the route cache, read by the gateway; on the event loop only."""

    def __init__(
        self,
        registration: Registration,
        *,
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registration = registration
        self.lease_seconds = lease_seconds
        self.epoch = 0
        """Grows with each registration: acknowledgements of an earlier one are gone."""
        self._clock = clock
        self._registered = False
        self._observed = False
        self._lease_ends = 0.0

    @property
    def process(self) -> ProcessId:
        return self.registration.process

    @property
    def registered(self) -> bool:
        """Whether the registry knows this process, as far as this process knows."""
        return self._registered

    @property
    def admits(self) -> bool:
        """Whether a request may be admitted now."""
        return self._registered and self._observed and self._leased

    @property
    def _leased(self) -> bool:
        return self.registration.on_loss == "keep" or self._clock() < self._lease_ends

    def note_registered(self) -> None:
        """The registry has the process; what it observed before does not count."""
        self._registered, self._observed = True, False
        self.epoch += 1

    def note_heartbeat(self, sent_at: float) -> None:
        """The registry has answered a heartbeat that was sent at `sent_at`.

        The registry's lease began later than that, so this one ends first.
        """
        self._lease_ends = max(self._lease_ends, sent_at + self.lease_seconds)

    def note_observed(self) -> None:
        """The registry has said that the revision routed by is the newest."""
        self._observed = self._registered

    def note_unknown(self) -> None:
        """The registry does not know the process any more: it was retired or replaced."""
        self._registered = self._observed = False
