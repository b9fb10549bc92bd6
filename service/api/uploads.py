"""Bounds the uploads in flight: a body lies in the temporary folder while it comes."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from adapters.errors import InvalidRequest, RateLimited, StorageFull

MAX_UPLOADS = 8
"""In flight at once; the chart's room for temporary files follows from it."""
MAX_OF_ONE_OWNER = 4
"""Of one unit or role, whatever the number of its keys: its slow uploads leave room for others'."""
UPLOAD_SECONDS = 3600.0
"""A body that takes longer has stalled, and would keep its place for ever."""


class Uploads:
    """Counts the uploads of one process; used on the event loop's thread only."""

    def __init__(self) -> None:
        self._by_owner: Counter[str] = Counter()

    @contextmanager
    def place(self, owner: str) -> Iterator[None]:
        """Holds one of the places while the body runs. Raises RateLimited when there is none."""
        if self._by_owner.total() >= MAX_UPLOADS or self._by_owner[owner] >= MAX_OF_ONE_OWNER:
            raise RateLimited("too many uploads at once; try again when one has ended")
        self._by_owner[owner] += 1
        try:
            yield
        finally:
            self._by_owner[owner] -= 1


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
