"""Hints that something changed, for whoever polls the revision.

Only a hint: one that is lost costs a poll's interval, never a change.
"""

from __future__ import annotations

from typing import Protocol


class Hints(Protocol):
    """Waits for changes. For one thread; `close` may come from another."""

    def wait(self, timeout: float) -> bool:
        """Returns when something changed (True), after `timeout` seconds, or at `close`."""
        ...

    def close(self) -> None:
        """Ends a wait under way, and every later one at once."""
        ...
