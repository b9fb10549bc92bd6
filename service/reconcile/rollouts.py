"""Rollouts: moves them as far as they can go, and lets a command wait for its own.

The registry decides what moves; this asks it whenever something may have changed. A command is
committed before anybody waits: from then on it is never answered with what a client repeats.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog

from adapters.domain.routes import Rollout, RolloutState
from adapters.errors import RolloutFailed
from adapters.registry.ports import Rollouts
from service.metrics import Metrics
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat, reason_or_traceback
from service.reconcile.route_table import RouteTable

ADVANCE_SECONDS = 0.25
"""While a rollout is open; what moves it may come from another replica."""
IDLE_SECONDS = 5.0
WATCH_SECONDS = 0.1
"""Between two looks at a rollout that commands wait for: another replica may move it."""
LAST_LOOK_SECONDS = 2.0
"""For what a command that waits no longer is answered with: less than a late call may take, for a
registry that hangs is why it waited so long.
"""
REMEMBERED = 128
"""Rollouts whose last step here is kept for the commands that wait for them."""

log = structlog.get_logger("wardrobe.swap")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A rollout as it is now, and the replicas it waits for; None where that cannot be known."""

    rollout: Rollout
    waits_for: Sequence[str] | None = ()


@dataclass(kw_only=True)
class _Watch:
    """Looks at one rollout for all commands that wait for it."""

    task: asyncio.Task[None]
    waiting: int = 0


class RolloutSteps:
    """Moves rollouts through their states."""

    def __init__(
        self,
        *,
        rollouts: Rollouts,
        table: RouteTable,
        on_move: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        """`on_move`: a route may have moved."""
        self._rollouts = rollouts
        self._table = table
        self._on_move = on_move
        self._metrics = metrics
        self._calls = RegistryCalls("rollouts")
        self._commands = RegistryCalls("commands")
        self._moved = asyncio.Condition()
        self._moves: OrderedDict[int, Rollout] = OrderedDict()
        self._watches: dict[int, _Watch] = {}
        self._looked_at = 0.0
        self._asked = False
        self._leaving = False
        self.repeat = Repeat("rollouts", self.step, every=ADVANCE_SECONDS, metrics=metrics)

    def kick(self) -> None:
        """Something that rollouts wait for may have happened."""
        self._asked = True
        self.repeat.kick()

    async def step(self) -> bool:
        """Moves what can move; whether another step should follow at once."""
        now = time.monotonic()
        if not self._asked and not self._table.rollouts and now - self._looked_at < IDLE_SECONDS:
            return False
        self._asked, self._looked_at = False, now
        began = time.perf_counter()
        moved = await self._calls(self._rollouts.advance)
        for rollout in moved:
            self._note(rollout, time.perf_counter() - began)
        if moved:
            self._on_move()
            await self._tell(moved)
        return bool(moved)

    async def _tell(self, moved: Sequence[Rollout]) -> None:
        self._remember(moved)
        async with self._moved:
            self._moved.notify_all()

    def _remember(self, moved: Sequence[Rollout]) -> None:
        for rollout in moved:
            known = self._moves.get(rollout.id)
            if known is None or known.state.open:  # a look that took long tells what was before
                self._moves[rollout.id] = rollout
                self._moves.move_to_end(rollout.id)
        while len(self._moves) > REMEMBERED:
            self._moves.popitem(last=False)

    def _note(self, rollout: Rollout, seconds: float) -> None:
        if rollout.state is RolloutState.FLIPPED:
            self._metrics.swap_phase.labels(phase="flip").observe(seconds)
        if not rollout.state.open:
            self._metrics.rollouts.labels(action=rollout.action, outcome=str(rollout.state)).inc()
        log.info(
            "rollout_moved",
            alias=rollout.alias,
            action=rollout.action,
            rollout=rollout.id,
            state=str(rollout.state),
        )

    async def wait(self, begun: Rollout, *, timeout: float) -> Outcome:
        """Waits until the rollout has ended; after `timeout` seconds, or at `end_waits`, the answer
        is as far as it is, at most `LAST_LOOK_SECONDS` later.

        Raises RolloutFailed. A registry that does not answer meanwhile raises nothing: the command
        stands.
        """
        rollout = begun
        self.kick()
        with suppress(TimeoutError), self._watching(rollout):
            async with asyncio.timeout(timeout):
                while rollout.state.open and not self._leaving:
                    rollout = await self._next_move(rollout)
        outcome = await self._last_look(rollout)
        if outcome.rollout.state is RolloutState.FAILED:
            raise RolloutFailed(f"nothing changed: {outcome.rollout.error}")
        return outcome

    async def _last_look(self, rollout: Rollout) -> Outcome:
        if not rollout.state.open:
            return Outcome(rollout=rollout)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_LOOK_SECONDS):
                rollout = await self._look(rollout)
                return Outcome(rollout=rollout, waits_for=await self.waits_for(rollout))
        return Outcome(rollout=rollout, waits_for=None if rollout.state.open else ())

    async def end_waits(self) -> None:
        """Answers every command that waits, now and from now on: this process is about to end.

        The web server would cut them off with an error that clients take for a failed command.
        """
        self._leaving = True
        async with self._moved:
            self._moved.notify_all()

    async def _next_move(self, rollout: Rollout) -> Rollout:
        """The rollout once it has moved, or as it is where this process is about to end."""

        def newer() -> Rollout | None:
            # states are never left and come back to: another state is a later one
            move = self._moves.get(rollout.id)
            return None if move is None or move.state is rollout.state else move

        async with self._moved:
            await self._moved.wait_for(lambda: self._leaving or newer() is not None)
        return newer() or rollout

    @contextmanager
    def _watching(self, rollout: Rollout) -> Iterator[None]:
        """While somebody waits for it, a rollout is looked at: once for all of them, or a caller
        who repeats a command a thousand times would make the registry's reads wait.
        """
        watch = self._watches.get(rollout.id)
        if watch is None:
            task = asyncio.create_task(self._watch(rollout), name=f"rollout {rollout.id}")
            watch = self._watches[rollout.id] = _Watch(task=task)
        watch.waiting += 1
        try:
            yield
        finally:
            watch.waiting -= 1
            if not watch.waiting:
                del self._watches[rollout.id]
                watch.task.cancel()

    async def _watch(self, rollout: Rollout) -> None:
        while rollout.state.open:
            await asyncio.sleep(WATCH_SECONDS)
            before, rollout = rollout, await self._look(rollout)
            if rollout.state is not before.state:
                await self._tell([rollout])

    async def _look(self, rollout: Rollout) -> Rollout:
        try:
            return await self._commands(self._rollouts.get, rollout.id)
        except Exception as error:  # committed is committed
            log.warning("rollout_not_read", rollout=rollout.id, **reason_or_traceback(error))
            await asyncio.sleep(WATCH_SECONDS)
            return rollout

    async def waits_for(self, rollout: Rollout) -> Sequence[str] | None:
        """Ids of the replicas that an open rollout waits for."""
        if not rollout.state.open:
            return ()
        try:
            return await self._commands(self._rollouts.waits_for, rollout.id)
        except Exception as error:
            log.warning("rollout_not_read", rollout=rollout.id, **reason_or_traceback(error))
            return None

    def close(self) -> None:
        """Lets go of the threads."""
        self._calls.close()
        self._commands.close()
