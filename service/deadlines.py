"""Ends waits that take too long, with one timer for all of them.

`asyncio.timeout_at` sets a timer for each wait and clears it again, which costs more than all else
that the gateway does to read a body, and nearly every body is there at once. Here a wait costs an
entry in a dictionary, and the timer is set where none is.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Wait:
    """The body of a `with` that ends in a TimeoutError where it lasts too long."""

    __slots__ = ("_cancelling", "_deadlines", "_task", "at", "expired")

    def __init__(self, deadlines: Deadlines, at: float) -> None:
        self._deadlines = deadlines
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self.at = at
        self.expired = False

    def __enter__(self) -> Self:
        task = self._task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be told that it has waited too long")
        self._cancelling = task.cancelling()
        self._deadlines.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        # as `asyncio.Timeout` does: a cancellation of somebody else's stays one
        if (
            self.expired
            and self._task is not None
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    def expire(self) -> None:
        """It has lasted too long."""
        if self._task is not None:
            self.expired = True
            self._task.cancel()


class Deadlines:
    """The waits of one event loop."""

    def __init__(self) -> None:
        self._waits: dict[Wait, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0

    def until(self, at: float) -> Wait:
        """A wait that ends at `at`, by the event loop's clock, at the latest."""
        return Wait(self, at)

    def add(self, wait: Wait) -> None:
        """It has begun."""
        self._waits[wait] = None
        if self._timer is None or wait.at < self._rings_at:
            self._set(wait.at)

    def remove(self, wait: Wait) -> None:
        """It has ended. The timer stays: most of the time it finds nobody, once a minute."""
        del self._waits[wait]

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        for wait in [wait for wait in self._waits if wait.at <= self._rings_at]:
            wait.expire()
        left = [wait.at for wait in self._waits if not wait.expired]
        if left:
            self._set(min(left))
