"""Bounds the bodies that have begun and are not whole: they lie in memory until they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from adapters.errors import RateLimited
from service.deadlines import Deadlines

MAX_OPEN_BODIES = 32
"""Of one unit or role in one process, 2 MiB each unless the settings say otherwise."""
BODY_SECONDS = 60.0
"""Until a JSON body is whole."""


class OpenBodies:
    """Counts those of one process; used on the event loop's thread only."""

    def __init__(self, *, seconds: float = BODY_SECONDS) -> None:
        self.seconds = seconds
        self.deadlines = Deadlines()
        self._by_owner: Counter[str] = Counter()

    @contextmanager
    def place(self, owner: str) -> Iterator[None]:
        """Holds one of the owner's places. Raises RateLimited when all are taken."""
        if self._by_owner[owner] >= MAX_OPEN_BODIES:
            raise RateLimited("too many bodies at once that are not complete")
        self._by_owner[owner] += 1
        try:
            yield
        finally:
            self._by_owner[owner] -= 1

    def of(self, owner: str) -> int:
        """How many of an owner's bodies are not whole."""
        return self._by_owner[owner]
