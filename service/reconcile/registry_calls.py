"""Runs an owner's calls into the registry in a thread of its own, with a bound on each wait.

So a busy default thread pool, or another owner's call behind a stuck writer, delays nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

CALL_SECONDS = 10.0
PATIENCE_SECONDS = 5.0
"""Of the owners' registry, for a lock or a statement: `advance` locks the rows that every replica's
heartbeat writes, and one that is frozen within it must not make the others look silent."""


class RegistryCalls:
    """Runs calls in one thread. A late call keeps it; those behind give up in their own time."""

    def __init__(self, owner: str, *, seconds: float = CALL_SECONDS) -> None:
        self._seconds = seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"registry-{owner}")

    async def __call__(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Raises what `call` raises, and TimeoutError when its answer is late."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._seconds):
            return await loop.run_in_executor(self._thread, partial(call, *args, **kwargs))

    def close(self) -> None:
        """Waits for nothing; a call under way ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)
