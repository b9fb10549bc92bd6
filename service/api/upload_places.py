"""Bounds the uploads in flight: a body lies in the temporary folder while it comes."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from adapters.errors import InvalidRequest, RateLimited, StorageFull

MAX_UPLOADS = 8
"""In flight at once; the chart's room for temporary files follows from it."""
MAX_OF_ONE_OWNER = 4
"""Of one unit or role, whatever the number of its keys: its slow uploads leave room for others'."""
KEPT_FREE = 2
"""Places for whoever has none yet: two units that send slowly would leave none to a third."""
MAX_WAITING = 32
"""Of one unit or role, beside those in flight."""
WAIT_SECONDS = 60.0
"""Well within what clients wait for an answer."""
UPLOAD_SECONDS = 3600.0
"""A body that takes longer has stalled, and would keep its place for ever."""


class Uploads:
    """Counts the uploads of one process; used on the event loop's thread only.

    Whoever comes when all places are taken waits, with the body unread, so that clients who send
    many files at once need no retries; so many and so long, and no more.
    """

    def __init__(self, *, patience: float = WAIT_SECONDS) -> None:
        self._patience = patience
        self._by_owner: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[None]:
        """Holds one of the places while the body runs. Raises RateLimited when none is freed."""
        if not self._has_room(owner):
            await self._wait(owner)
        self._by_owner[owner] += 1
        try:
            yield
        finally:
            self._by_owner[owner] -= 1
            async with self._freed:
                self._freed.notify_all()

    def _has_room(self, owner: str) -> bool:
        held, free = self._by_owner[owner], MAX_UPLOADS - self._by_owner.total()
        return held < MAX_OF_ONE_OWNER and free > (KEPT_FREE if held else 0)

    async def _wait(self, owner: str) -> None:
        """Until there is room: nothing is awaited between that look and the place being taken."""
        refusal = RateLimited("too many uploads at once; try again when one has ended")
        if self._waiting[owner] >= MAX_WAITING:
            raise refusal
        self._waiting[owner] += 1
        try:
            async with asyncio.timeout(self._patience), self._freed:
                await self._freed.wait_for(lambda: self._has_room(owner))
        except TimeoutError:
            raise refusal from None
        finally:
            self._waiting[owner] -= 1


@contextmanager
def spooling() -> Iterator[None]:
    """What goes wrong while a body comes. Raises StorageFull, InvalidRequest."""
    try:
        yield
    except TimeoutError:
        raise InvalidRequest(
            f"the upload took longer than {UPLOAD_SECONDS:.0f} s", code="upload_timeout"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull("there is no room for this upload's temporary file") from None
