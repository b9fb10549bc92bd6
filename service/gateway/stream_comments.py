"""Comments in a stream of events while its first event is long in coming.

Whoever stands between may end a connection on which nothing moves, often after a minute; clients
skip lines that begin with a colon (the HTML standard, "Server-sent events").
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

SILENCE_SECONDS = 15.0
"""The longest that nothing is sent. Until then the answer's status is open: an engine that fails
meanwhile is an error that clients repeat by themselves."""
COMMENT = b": keep-alive\n\n"


class StreamComments:
    """Sends a comment whenever nothing was sent for a while, until stopped. On an event loop."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], *, every: float) -> None:
        self._send = send
        self._every = every
        self._stopped = False
        self._sending: asyncio.Task[None] | None = None
        # most streams begin long before: none of them pays for a task
        self._timer = asyncio.get_running_loop().call_later(every, self._begin)

    def _begin(self) -> None:
        self._sending = asyncio.create_task(self._run())

    async def _run(self) -> None:
        with suppress(OSError):  # whoever asked may be gone
            await self._send(COMMENT)
        if not self._stopped:
            self._timer = asyncio.get_running_loop().call_later(self._every, self._begin)

    async def stop(self) -> None:
        """The comment that is being sent is the last."""
        self._stopped = True
        self._timer.cancel()
        if self._sending is not None:
            await self._sending

    def abandon(self) -> None:
        """The same, for a request that has ended: nothing more is sent."""
        self._stopped = True
        self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()
