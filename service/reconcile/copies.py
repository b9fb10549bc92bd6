"""Copies of requests under way in this process: a few at once, and none on the way out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

MAX_COPIES = 4
"""At once in one process. Copies that take long, because the engine has other work, make the next
ones be dropped."""


class Copies:
    """Owns the tasks that answer copies; nobody waits for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def has_room(self) -> bool:
        """Whether one more may be made beside the others; the engine is asked besides."""
        return not self._stopped and len(self._tasks) < MAX_COPIES

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work`, which raises nothing, until it ends or the process is about to."""
        task = asyncio.create_task(work, name="shadow copy")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Breaks off what is under way, and starts nothing more: a drain waits for callers only."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
