"""Tells the registry what the engine holds and what it cannot hold.

Level-triggered: each step compares what is with what the registry has and sends the difference, so
an outage, a lost answer or a new registration loses nothing. What the registry has is read from it
where that is not sure: after a registration, and after a call without an answer. The loader never
waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adapters.domain.names import VersionId
from adapters.errors import NotFound
from adapters.registry.ports import Acknowledgement, ProcessId, Replicas
from service.metrics import Metrics
from service.reconcile.membership import Membership
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat

REPEAT_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Unloadable:
    """Why a version cannot be loaded. Each attempt is news: the same error may be another's."""

    error: str
    at: float | None
    """When it was tried; None for what the registry had from before."""


State = Mapping[VersionId, Unloadable | None]
"""Version → None where it is loaded."""


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
        self._sent: State | None = None
        """What the registry has; None where that must be asked."""
        self._epoch = 0
        self.repeat = Repeat("acknowledgements", self.step, every=REPEAT_SECONDS, metrics=metrics)

    async def step(self) -> None:
        """Sends what has changed since the last answer."""
        state, membership = self._state(), self._membership
        if state is None or not membership.registered:
            return
        if self._epoch != membership.epoch:
            self._sent, self._epoch = None, membership.epoch
        try:
            moved = await self._send(state, membership.process)
        except NotFound:
            membership.note_unknown()
            self._on_unknown()
            return
        if moved:
            self._on_sent()

    async def _send(self, state: State, process: ProcessId) -> bool:
        """Whether there was a difference. Raises NotFound."""
        sent = self._sent
        if sent is None:
            sent = await self._calls(self._told, process.replica)
        fresh = [
            Acknowledgement(version_id=version, error=failed.error if failed else None)
            for version, failed in state.items()
            if version not in sent or sent[version] != failed
        ]
        gone = [version for version in sent if version not in state]
        self._sent = None  # until both calls are answered
        of = (process.replica, process.incarnation)
        if gone:
            await self._calls(self._replicas.unloaded, *of, gone)
        if fresh:
            await self._calls(self._replicas.acknowledge, *of, fresh)
        self._sent = dict(state)
        return bool(fresh or gone)

    def _told(self, replica: str) -> State:
        """What the registry has of this replica's engine. Blocks."""
        found = [one for one in self._replicas.list() if one.id == replica]
        return {
            version: failed
            for one in found
            for version, failed in (
                *((version, None) for version in one.loaded),
                *(
                    (version, Unloadable(error=error, at=None))
                    for version, error in one.failed.items()
                ),
            )
        }

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()
