"""The route cache: keeps the route table at the registry's newest revision.

It asks for the revision four times a second, reads what changed after the one it has, applies that
in one go and reports what it routes by. It never waits for the engine.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable

import structlog

from adapters.domain.names import Alias, split_version
from adapters.domain.principals import Principal
from adapters.domain.units import Units
from adapters.errors import NotFound, Unavailable
from adapters.registry.ports import Replicas, Routes
from service.metrics import Metrics
from service.reconcile.membership import Membership
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat
from service.reconcile.route_table import NEVER_READ, RouteTable, Target

POLL_SECONDS = 0.25
LOOK_SECONDS = 5.0
"""How long a request waits for a fresh look at the registry."""
MAX_UNKNOWN = 4096
"""Names that were looked for and not found."""

log = structlog.get_logger("wardrobe.swap")


class RouteCache:
    """Keeps the route table up to date."""

    def __init__(
        self,
        *,
        routes: Routes,
        replicas: Replicas,
        table: RouteTable,
        membership: Membership,
        units: Callable[[], Units],
        on_change: Callable[[], None],
        on_unknown: Callable[[], None],
        metrics: Metrics,
        trust_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change`: the table has changed. `on_unknown`: the replica must register again.

        `trust_seconds`: how long the table is believed as to who has a key, behind a look.
        """
        self.table = table
        self._routes = routes
        self._replicas = replicas
        self._membership = membership
        self._units = units
        self._on_change = on_change
        self._on_unknown = on_unknown
        self._metrics = metrics
        self._trust_seconds = trust_seconds
        self._clock = clock
        self._trusted_until = -math.inf
        self._calls = RegistryCalls("routes")
        self._unknown: OrderedDict[str, None] = OrderedDict()
        self._next: asyncio.Future[None] | None = None
        self._observed: tuple[int, int] = (0, NEVER_READ)
        self._units_seen: Units | None = None
        self.repeat = Repeat("route_cache", self.step, every=POLL_SECONDS, metrics=metrics)

    @property
    def synced(self) -> bool:
        """Whether the registry has been read at all."""
        return self.table.revision != NEVER_READ

    @property
    def trusted(self) -> bool:
        """Whether a look at the registry is young enough to tell who has a key."""
        return self._clock() < self._trusted_until

    @property
    def trust_left(self) -> float:
        """Seconds; 0 where there is none."""
        return max(0.0, self._trusted_until - self._clock())

    # -- what requests ask

    async def resolve(self, model: str, principal: Principal, lot: str | None = None) -> Target:
        """A version published a moment ago is known to the registry before it is to the table.

        A name costs one look at the registry, shared with whoever else misses one, and none after
        that: what is published later comes with the next poll. Raises NotFound, Unavailable.
        """
        try:
            return self.table.resolve(model, principal, lot)
        except NotFound:
            if not self._is_worth_a_look(model, principal):
                raise
        await self.refresh()
        try:
            return self.table.resolve(model, principal, lot)
        except NotFound:
            self._note_unknown(model)
            raise

    def _is_worth_a_look(self, model: str, principal: Principal) -> bool:
        parts = split_version(model)
        if parts is None or model in self._unknown or self.table.knows(model):
            return False
        owner = self._units().owner_of.get(Alias(parts[0]))
        return owner is not None and principal.may_name(owner, parts[0])

    def _note_unknown(self, model: str) -> None:
        self._unknown[model] = None
        while len(self._unknown) > MAX_UNKNOWN:
            self._unknown.popitem(last=False)

    async def refresh(self) -> None:
        """What was committed before the call is routed by after it. Raises Unavailable.

        All who ask while a look is under way share the next one.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            self._next.add_done_callback(_retrieve)
        look = self._next
        self.repeat.kick()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await asyncio.shield(look)
        except TimeoutError:
            raise Unavailable("the registry does not answer", code="registry_unavailable") from None

    # -- the owner's own steps

    async def step(self) -> bool:
        """One look; whether another should follow at once."""
        look, self._next = self._next, None
        try:
            await self._read()
            self._note_look(look, None)
            return await self._observe()
        except Exception:
            failed = Unavailable("the registry cannot be read", code="registry_unavailable")
            self._note_look(look, failed)
            raise

    def _note_look(self, look: asyncio.Future[None] | None, error: Exception | None) -> None:
        if look is None or look.done():
            return
        if error is None:
            look.set_result(None)
        else:
            look.set_exception(error)

    async def _read(self) -> None:
        units, began = self._units(), self._clock()
        revision = await self._calls(self._routes.revision)
        if revision != self.table.revision:
            changes = await self._calls(self._routes.changes, self.table.revision)
            self.table.apply(changes)
            for version in changes.versions:
                self._unknown.pop(version.name, None)
            self._metrics.revision.set(self.table.revision)
            self._on_change()
        elif units is not self._units_seen:
            self._on_change()
        self._units_seen = units
        self._trusted_until = began + self._trust_seconds
        self._metrics.registry_read.set_to_current_time()

    async def _observe(self) -> bool:
        """Reports the table's revision, once per registration; True where a newer one is there."""
        mine = (self._membership.epoch, self.table.revision)
        if not self._membership.registered or self._observed == mine:
            return False
        try:
            newest = await self._calls(
                self._replicas.observe, self._membership.process, self.table.revision
            )
        except NotFound:
            self._membership.note_unknown()
            self._on_unknown()
            return False
        self._observed = mine
        if newest != self.table.revision:
            return True
        # registered anew while the answer was under way: then it was for another epoch
        if self._membership.epoch == mine[0]:
            self._membership.note_observed()
        self._on_change()
        return False

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()


def _retrieve(look: asyncio.Future[None]) -> None:
    """Nobody may be waiting any more for an exception that was set."""
    if not look.cancelled():
        look.exception()
