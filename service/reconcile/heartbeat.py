"""The heartbeat: says every two seconds that this process lives, and registers it where needed."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from adapters.errors import NotFound
from adapters.registry.ports import Replicas
from service.metrics import Metrics
from service.reconcile.membership import Membership
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat

HEARTBEAT_SECONDS = 2.0

log = structlog.get_logger("wardrobe.swap")


class Heartbeat:
    """Reports to the registry that this process lives, and takes its rows back at the end."""

    def __init__(
        self,
        *,
        replicas: Replicas,
        membership: Membership,
        ready: Callable[[], bool],
        on_registered: Callable[[], None],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replicas = replicas
        self._membership = membership
        self._ready = ready
        self._on_registered = on_registered
        self._clock = clock
        self._said_ready = False
        self._calls = RegistryCalls("heartbeat")
        self.repeat = Repeat("heartbeat", self.beat, every=HEARTBEAT_SECONDS, metrics=metrics)

    async def beat(self) -> bool:
        """One heartbeat, behind a registration where the registry does not know the process."""
        if not self._membership.registered:
            await self._calls(self._replicas.register, self._membership.registration)
            self._membership.note_registered()
            log.info("registered", replica=self._membership.process.replica)
            self._on_registered()
        sent_at, ready = self._clock(), self._ready()
        try:
            await self._calls(
                self._replicas.heartbeat,
                self._membership.process,
                ready=ready,
                lease_seconds=self._membership.lease_seconds,
            )
        except NotFound:
            log.warning("replica_unknown", replica=self._membership.process.replica)
            self._membership.note_unknown()
            return True
        self._membership.note_heartbeat(sent_at)
        self._said_ready = ready
        return False

    def notice(self) -> None:
        """Readiness may have changed: the registry hears of it at once, and of nothing else."""
        if self._ready() != self._said_ready:
            self.repeat.kick()

    async def leave(self) -> None:
        """Takes the process's rows back, at a clean exit."""
        await self._calls(self._replicas.leave, self._membership.process)

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()
