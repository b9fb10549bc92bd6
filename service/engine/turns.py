"""Shares an engine between the lanes of its callers, by weight.

A lane is a unit, or a kind of traffic. As long as the engine has room, nobody waits and nothing is
awaited here. Room is what it answers without much delay to each other (`shared`) where several
lanes have asked lately, and most of it where one asks alone: never all, so that the first request
of another does not wait for its answers to end. Beside a lane that keeps to its part it is less
(`beside_calm`): whatever runs makes that lane's answers slower. Where all want more than their
parts, nobody is disturbed by being one of many, and `shared` it is.

Where there is no room, requests wait in their own lanes, and whatever becomes free goes at once to
the lane that has had the fewest tokens for its weight (start-time fair queueing, Goyal and others,
1996; the tokens are those reserved, settled by those used). So what one lane leaves free is the
others', and what all want is shared, however many requests one sends and however long they are. Who
has had less than another gets its part of the room even where that other has all of it: a caller
that keeps to its part never waits for the answers of one that does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from adapters.errors import Overloaded

RECENT_SECONDS = 10.0
"""How long a lane counts behind its last request: its callers may only pause for a moment."""
ALONE = 0.75
"""The most of the engine that one lane gets."""
WAIT_SECONDS = 20.0
"""The longest that a request waits for its turn."""


class Load(NamedTuple):
    """What a request is to the engine."""

    sequences: int
    tokens: int
    """Of its prompts and its answers, about."""


@dataclass(eq=False)
class _Waiting:
    load: Load
    turn: asyncio.Future[None]


@dataclass(eq=False)
class _Lane:
    weight: float
    seen: float = 0.0
    running: int = 0
    """Sequences."""
    reserved: int = 0
    """Tokens of what runs."""
    had: float = 0.0
    """Tokens for its weight, those reserved among them; a lane that comes back starts level."""
    waiting: deque[_Waiting] = field(default_factory=deque)

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    @property
    def settled(self) -> float:
        """What it has had without what runs: callers within its part may ask at the same time."""
        return self.had - self.reserved / self.weight


class Turn:
    """One request's place in the engine; a context manager that gives it back."""

    __slots__ = ("_lane", "_load", "_turns", "used")

    def __init__(self, turns: Turns, lane: _Lane, load: Load) -> None:
        self.used = load.tokens
        """Tokens that the request has had, once that is known."""
        self._turns = turns
        self._lane = lane
        self._load = load

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._turns._end(self._lane, self._load, self.used)  # noqa: SLF001 - two halves of one thing


class Turns:
    """This process's part of one engine. On the event loop only."""

    def __init__(
        self,
        capacity: int,
        *,
        shared: int | None = None,
        beside_calm: int | None = None,
        wait_seconds: float = WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`capacity` is the most sequences at once, `shared` what several lanes share of it, and
        `beside_calm` what is left of that where one of them keeps to its part.
        """
        self.capacity = max(1, capacity)
        self._alone = max(1, int(self.capacity * ALONE))
        self.shared = min(self._alone, max(1, shared or capacity))
        self.beside_calm = min(self.shared, max(1, beside_calm or self.shared))
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self._spare = _Lane(1.0)
        self._running = 0
        self._waiting = 0
        self._level = 0.0
        """Where the lanes stand: the most that one had had when it was called."""

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self._waiting

    def take(self, name: str, weight: float, load: Load) -> Turn | None:
        """A turn at once, or None: then `wait` for it. There is no await in here."""
        lane = self._lane(name, weight)
        if lane.waiting:
            return None
        load = self._bounded(lane, load)
        if (self._has_room(lane, load) and not self._waiting) or self._is_due(lane, load):
            return self._begin(lane, load)
        return None

    def take_spare(self, load: Load) -> Turn | None:
        """A turn that nobody waits for, below every lane: only where there is room for all."""
        idle = not self._waiting and self._running + load.sequences <= self.shared
        return self._begin(self._spare, load) if idle else None

    async def wait(self, name: str, weight: float, load: Load) -> Turn:
        """A turn, behind the lane's own requests. Raises Overloaded when it does not come."""
        lane = self._lane(name, weight)
        asking = _Waiting(load, asyncio.get_running_loop().create_future())
        lane.waiting.append(asking)
        self._waiting += 1
        self._call_next()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await asking.turn
        except BaseException as error:
            self._give_up(lane, asking)
            if isinstance(error, TimeoutError):
                raise Overloaded("too many requests wait for the engine; try again") from None
            raise
        return Turn(self, lane, asking.load)

    def _give_up(self, lane: _Lane, asking: _Waiting) -> None:
        if asking.turn.done() and not asking.turn.cancelled():
            self._end(lane, asking.load, used=0)  # called, and gone meanwhile
            return
        with contextlib.suppress(ValueError):  # it was passed over already
            lane.waiting.remove(asking)
            self._waiting -= 1
        self._call_next()

    def _lane(self, name: str, weight: float) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            self._forget_idle()
            lane = self._lanes[name] = _Lane(weight)
        lane.weight = weight
        lane.seen = self._clock()
        if not lane.waiting:
            # what it did not ask for is not saved up
            lane.had = max(lane.had, self._level + lane.reserved / weight)
        return lane

    def _forget_idle(self) -> None:
        since = self._clock() - RECENT_SECONDS
        idle = [n for n, lane in self._lanes.items() if lane.seen < since and not lane.busy]
        for name in idle:
            del self._lanes[name]

    def _bounded(self, lane: _Lane, load: Load) -> Load:
        """No request takes more than its lane's part: nobody would be called until the engine had
        that much room. The engine queues what is more by itself.
        """
        if load.sequences == 1:
            return load
        most = max(1, int(self._part(lane)))
        return Load(min(load.sequences, most), load.tokens)

    def _has_room(self, lane: _Lane, load: Load) -> bool:
        after = self._running + load.sequences
        # who has asked lately is looked at only where the engine is busy
        if after <= self.beside_calm:
            return True
        room = self._room(lane)
        # what alone is larger than the room would never be called
        first = not lane.running and self._running <= room
        return after <= room or (first and after <= self.shared)

    def _is_due(self, lane: _Lane, load: Load) -> bool:
        """Whether it keeps to its part, and somebody else has had more."""
        within = not lane.running or lane.running + load.sequences <= self._part(lane)
        return (
            within
            and self._running + load.sequences <= self.capacity
            and any(each.busy and each.had > lane.settled for each in self._others(lane))
        )

    def _others(self, lane: _Lane) -> list[_Lane]:
        return [each for each in self._lanes.values() if each is not lane]

    def _recent(self) -> list[_Lane]:
        since = self._clock() - RECENT_SECONDS
        return [each for each in self._lanes.values() if each.seen >= since or each.busy]

    def _room(self, lane: _Lane) -> int:
        """The most sequences at once when this lane has begun one more."""
        others = [each for each in self._recent() if each is not lane]
        if not others:
            return self._alone
        if self.beside_calm < self.shared and any(map(self._is_calm, others)):
            return self.beside_calm
        return self.shared

    def _is_calm(self, lane: _Lane) -> bool:
        return not lane.waiting and lane.running <= self._part(lane)

    def _part(self, lane: _Lane) -> float:
        since = self._clock() - RECENT_SECONDS
        weights = sum(each.weight for each in self._lanes.values() if each.seen >= since)
        whole = self.shared if len(self._recent()) > 1 else self._alone
        return whole * lane.weight / max(weights, lane.weight)

    def _begin(self, lane: _Lane, load: Load) -> Turn:
        self._level = max(self._level, lane.settled)
        lane.had += load.tokens / lane.weight
        lane.reserved += load.tokens
        lane.running += load.sequences
        self._running += load.sequences
        return Turn(self, lane, load)

    def _end(self, lane: _Lane, load: Load, used: int) -> None:
        lane.had += (used - load.tokens) / lane.weight
        lane.reserved -= load.tokens
        lane.running -= load.sequences
        self._running -= load.sequences
        if self._waiting:
            self._call_next()

    def _call_next(self) -> None:
        """Calls those who wait, as long as there is a place for one."""
        while (lane := self._next()) is not None:
            asking = lane.waiting.popleft()
            self._waiting -= 1
            if not asking.turn.cancelled():
                self._begin(lane, asking.load)
                asking.turn.set_result(None)

    def _next(self) -> _Lane | None:
        """Whose first request is called: no smaller one passes the next that has no room yet, but
        for one that is due.
        """
        lanes = sorted((lane for lane in self._lanes.values() if lane.waiting), key=_tokens_had)
        for lane in lanes:
            # now: lanes that have come since have made its part smaller
            asking = lane.waiting[0]
            asking.load = self._bounded(lane, asking.load)
        if lanes and self._has_room(lanes[0], lanes[0].waiting[0].load):
            return lanes[0]
        return next((lane for lane in lanes if self._is_due(lane, lane.waiting[0].load)), None)


def _tokens_had(lane: _Lane) -> float:
    return lane.had
