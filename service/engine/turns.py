"""Shares an engine between the lanes of its callers, by weight.

A lane is a unit, or a kind of traffic. Where several have asked lately, each has its part of the
sequences that the engine answers without much delay to each other (`shared`); who asks for more
waits in its own lane, however many it sends, and the others are as fast as before. While each keeps
to its part, nobody waits and nothing is awaited here.

Lanes count for a while behind their last request: whose callers pause for a moment finds its part
free when they come back. One lane alone gets most of the engine and never all of it, so that the
first request of another does not wait for its answers to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from adapters.errors import Overloaded

RECENT_SECONDS = 10.0
"""How long a lane's part is kept free behind its last request."""
ALONE = 0.75
"""The most of the engine that one lane gets."""
WAIT_SECONDS = 20.0
"""The longest that a request waits for its turn."""


@dataclass(eq=False)
class _Waiting:
    sequences: int
    turn: asyncio.Future[None]


@dataclass(eq=False)
class _Lane:
    weight: float
    seen: float = 0.0
    running: int = 0
    waiting: deque[_Waiting] = field(default_factory=deque)


class Turn:
    """One request's sequences in the engine; a context manager that gives them back."""

    __slots__ = ("_lane", "_sequences", "_turns")

    def __init__(self, turns: Turns, lane: _Lane, sequences: int) -> None:
        self._turns = turns
        self._lane = lane
        self._sequences = sequences

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._turns._end(self._lane, self._sequences)  # noqa: SLF001 - two halves of one thing


class Turns:
    """This process's part of one engine. On the event loop only."""

    def __init__(
        self,
        capacity: int,
        *,
        shared: int | None = None,
        wait_seconds: float = WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`capacity` is the most sequences at once, `shared` what several lanes share of it."""
        self.capacity = max(1, capacity)
        self._shared = min(self.capacity, max(1, shared or capacity))
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self._running = 0
        self.waiting = 0
        """Requests that wait for their turn."""

    def take(self, name: str, weight: float, sequences: int) -> Turn | None:
        """A turn at once, or None: then `wait` for it. There is no await in here."""
        lane = self._lane(name, weight)
        sequences = self._bounded(lane, sequences)
        if lane.waiting or not self._fits(lane, sequences):
            return None
        return self._begin(lane, sequences)

    async def wait(self, name: str, weight: float, sequences: int) -> Turn:
        """A turn, behind the lane's own requests. Raises Overloaded when it does not come."""
        lane = self._lane(name, weight)
        sequences = self._bounded(lane, sequences)
        asking = _Waiting(sequences, asyncio.get_running_loop().create_future())
        lane.waiting.append(asking)
        self.waiting += 1
        self._call_next()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await asking.turn
        except BaseException as error:
            if asking.turn.done() and not asking.turn.cancelled():
                self._end(lane, sequences)  # called, and gone meanwhile
            else:
                with contextlib.suppress(ValueError):  # it was passed over already
                    lane.waiting.remove(asking)
                    self.waiting -= 1
                self._call_next()
            if isinstance(error, TimeoutError):
                raise Overloaded("too many requests wait for the engine; try again") from None
            raise
        return Turn(self, lane, sequences)

    def _lane(self, name: str, weight: float) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            self._forget_idle()
            lane = self._lanes[name] = _Lane(weight)
        lane.weight = weight
        lane.seen = self._clock()
        return lane

    def _forget_idle(self) -> None:
        since = self._clock() - RECENT_SECONDS
        idle = [n for n, lane in self._lanes.items() if lane.seen < since and not _busy(lane)]
        for name in idle:
            del self._lanes[name]

    def _bounded(self, lane: _Lane, sequences: int) -> int:
        """No request asks for more than its lane's part: nobody would be called until the engine
        had that much room. The engine queues what is more by itself.
        """
        return sequences if sequences == 1 else min(sequences, int(self._part(lane)))

    def _fits(self, lane: _Lane, sequences: int) -> bool:
        return self._running + sequences <= self.capacity and self._fits_lane(lane, sequences)

    def _fits_lane(self, lane: _Lane, sequences: int) -> bool:
        return not lane.running or lane.running + sequences <= self._part(lane)

    def _part(self, lane: _Lane) -> float:
        since = self._clock() - RECENT_SECONDS
        weights = sum(each.weight for each in self._lanes.values() if each.seen >= since)
        if weights <= lane.weight:
            return max(1.0, self.capacity * ALONE)
        return max(1.0, self._shared * lane.weight / weights)

    def _begin(self, lane: _Lane, sequences: int) -> Turn:
        lane.running += sequences
        self._running += sequences
        return Turn(self, lane, sequences)

    def _end(self, lane: _Lane, sequences: int) -> None:
        lane.running -= sequences
        self._running -= sequences
        self._call_next()

    def _call_next(self) -> None:
        """Calls those who wait, from the lane that has least for its weight, as long as one fits.

        Where one fits its lane but not the engine, it is next: smaller ones do not pass it.
        """
        while self.waiting:
            ready = [
                lane
                for lane in self._lanes.values()
                if lane.waiting and self._fits_lane(lane, lane.waiting[0].sequences)
            ]
            if not ready:
                return
            lane = min(ready, key=lambda each: each.running / each.weight)
            if not self._fits(lane, lane.waiting[0].sequences):
                return
            asking = lane.waiting.popleft()
            self.waiting -= 1
            if asking.turn.cancelled():
                continue
            self._begin(lane, asking.sequences)
            asking.turn.set_result(None)


def _busy(lane: _Lane) -> bool:
    return bool(lane.running or lane.waiting)
