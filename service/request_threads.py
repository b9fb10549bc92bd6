"""Runs the blocking calls of requests in threads of their own: reads, commands and files apart.

A command may wait for a lock that somebody else holds, a file for a slow storage, each for half a
minute. Neither takes a thread from the others, from the swap or from the web server, and no owner
has more than a few of a kind.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from adapters.domain.principals import Principal

T = TypeVar("T")

READS, COMMANDS, FILES = 6, 6, 4
"""Threads of each kind: together as many as the registry's pool has connections."""
OF_ONE_OWNER = 2
"""Of each kind, for one unit or one role."""


class RequestThreads:
    """The threads of one process; used on the event loop's thread only."""

    def __init__(self) -> None:
        self._reads = _Kind("read", READS)
        self._commands = _Kind("command", COMMANDS)
        self._files = _Kind("file", FILES)

    async def read(
        self, principal: Principal, call: Callable[..., T], *args: Any, **kwargs: Any
    ) -> T:
        """What only looks at the registry."""
        return await self._reads.run(principal, partial(call, *args, **kwargs))

    async def command(
        self, principal: Principal, call: Callable[..., T], *args: Any, **kwargs: Any
    ) -> T:
        """What changes the registry."""
        return await self._commands.run(principal, partial(call, *args, **kwargs))

    async def file(
        self, principal: Principal, call: Callable[..., T], *args: Any, **kwargs: Any
    ) -> T:
        """What moves a file's bytes from or to the artifact store."""
        return await self._files.run(principal, partial(call, *args, **kwargs))

    def close(self) -> None:
        """Waits for nothing; calls under way end by themselves."""
        for kind in (self._reads, self._commands, self._files):
            kind.close()


class _Kind:
    """Threads of one kind, of which each owner has a part."""

    def __init__(self, name: str, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"request-{name}")
        self._parts: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(OF_ONE_OWNER)
        )

    async def run(self, principal: Principal, call: Callable[[], T]) -> T:
        """Raises what `call` raises. Whoever waits no longer leaves its thread to the call, and its
        owner has that one less until the call has ended.
        """
        part = self._parts[principal.owner]
        await part.acquire()
        running = asyncio.get_running_loop().run_in_executor(self._threads, call)
        running.add_done_callback(lambda ended: _release(part, ended))
        return await asyncio.shield(running)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _release(part: asyncio.Semaphore, ended: asyncio.Future[Any]) -> None:
    part.release()
    if not ended.cancelled():
        ended.exception()  # nobody may be waiting for it any more
