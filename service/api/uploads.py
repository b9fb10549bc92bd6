"""Bounds the uploads in flight, and does their blocking work in threads of their own.

A body of half a gigabyte lies in the temporary folder while it comes, and hashing it takes a
while; neither may fill the disk nor the thread pool that the loader fetches artifacts with.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from adapters.errors import InvalidRequest, RateLimited, StorageFull

T = TypeVar("T")

MAX_UPLOADS = 8
"""In flight at once; the chart's room for temporary files follows from it."""
MAX_OF_ONE_KEY = 4
"""So that one caller's slow uploads leave room for the others'."""
UPLOAD_SECONDS = 3600.0
"""A body that takes longer has stalled, and would keep its place for ever."""
THREADS = 2


class Uploads:
    """Counts the uploads of one process; used on the event loop's thread only."""

    def __init__(self) -> None:
        self._by_key: Counter[str] = Counter()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="upload")

    @contextmanager
    def place(self, key_id: str) -> Iterator[None]:
        """Holds one of the places while the body runs. Raises RateLimited when there is none."""
        if self._by_key.total() >= MAX_UPLOADS or self._by_key[key_id] >= MAX_OF_ONE_KEY:
            raise RateLimited("too many uploads at once; try again when one has ended")
        self._by_key[key_id] += 1
        try:
            yield
        finally:
            self._by_key[key_id] -= 1

    async def in_thread(self, call: Callable[..., T], *args: object) -> T:
        """Runs blocking work on the uploads' own threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)


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
