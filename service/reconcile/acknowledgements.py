"""Tells the registry what the engine holds and what it cannot hold.

Level-triggered: each step compares what is with what was acknowledged and sends the difference, so
an outage, a lost answer or a new registration loses nothing. The loader never waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from adapters.domain.names import VersionId
from adapters.errors import NotFound
from adapters.registry.ports import Acknowledgement, Replicas
from service.metrics import Metrics
from service.reconcile.membership import Membership
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat

REPEAT_SECONDS = 1.0

State = Mapping[VersionId, str | None]
"""Version → None where it is loaded, else why it cannot be."""


class Acknowledgements:
    """Acknowledges to the registry what this replica's engine holds and what it cannot hold."""

    def __init__(
        self,
        *,
        replicas: Replicas,
        membership: Membership,
        state: Callable[[], State | None],
        on_sent: Callable[[], None],
        on_unknown: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        """`state` is None where another process speaks for the engine."""
        self._replicas = replicas
        self._membership = membership
        self._state = state
        self._on_sent = on_sent
        self._on_unknown = on_unknown
        self._calls = RegistryCalls("acknowledgements")
        self._sent: dict[VersionId, str | None] = {}
        self._epoch = 0
        self.repeat = Repeat("acknowledgements", self.step, every=REPEAT_SECONDS, metrics=metrics)

    async def step(self) -> None:
        """Sends what has changed since the last answer."""
        state, membership = self._state(), self._membership
        if state is None or not membership.registered:
            return
        if self._epoch != membership.epoch:
            self._sent, self._epoch = {}, membership.epoch
        fresh = [
            Acknowledgement(version_id=version, error=error)
            for version, error in state.items()
            if version not in self._sent or self._sent[version] != error
        ]
        gone = [version for version in self._sent if version not in state]
        process = membership.process
        try:
            if gone:
                await self._calls(
                    self._replicas.unloaded, process.replica, process.incarnation, gone
                )
                for version in gone:
                    del self._sent[version]
            if fresh:
                await self._calls(
                    self._replicas.acknowledge, process.replica, process.incarnation, fresh
                )
                self._sent |= {each.version_id: each.error for each in fresh}
        except NotFound:
            membership.note_unknown()
            self._on_unknown()
            return
        if fresh or gone:
            self._on_sent()

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()
