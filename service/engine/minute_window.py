"""Counts what was admitted in the last minute, in slots of two seconds.

Its cells lie in memory that all API processes of an engine share. Only the process that a window
belongs to writes to it; the others add it up. What was counted leaves when its whole slot is a
minute old: within any minute, never more is counted than was admitted.
"""

from __future__ import annotations

from collections.abc import Sequence

SLOT_SECONDS = 2.0
SLOTS = 31
"""A minute, and the slot that has just begun."""
CELLS = 1 + SLOTS
"""The newest slot's number, and an amount for each of the last slots."""

Cells = memoryview
"""Of 64-bit numbers."""


class MinuteWindow:
    """One process's own window."""

    __slots__ = ("_at", "_cells", "_moved", "newest", "total")

    def __init__(self, cells: Cells, at: int) -> None:
        """`at` is the number of its first cell."""
        self._cells = cells
        self._at = at
        self._moved = 0
        self.newest = 0
        """The slot in which something was counted last."""
        self.total = 0
        """What the window holds, as of the last `move`."""

    def move(self, slot: int) -> None:
        """The time is `slot`: what is too old leaves. A clock never goes back (monotonic)."""
        passed = slot - self._moved
        if passed <= 0:
            return
        cells, first = self._cells, self._at + 1
        for number in range(slot - min(passed, SLOTS) + 1, slot + 1):
            cell = first + number % SLOTS
            self.total -= cells[cell]
            cells[cell] = 0
        self._moved = cells[self._at] = slot

    def add(self, amount: int, slot: int) -> None:
        """Counts `amount`, which may be negative, in a slot that is still held; else nowhere."""
        if self._moved - slot < SLOTS:
            self._cells[self._at + 1 + slot % SLOTS] += amount
            self.total += amount
            if slot > self.newest:
                self.newest = slot


def seen(cells: Cells, at: int, slot: int) -> Sequence[int]:
    """Another process's window as of `slot`: its amounts, oldest slot first."""
    newest = cells[at]
    amounts = cells[at + 1 : at + CELLS].tolist()
    return [
        amounts[number % SLOTS] if newest - SLOTS < number <= newest else 0
        for number in range(slot - SLOTS + 1, slot + 1)
    ]


def slots_until(amounts: Sequence[int], freed: int) -> int:
    """After how many slots `freed` of `amounts`, oldest first, has left; at most all of them."""
    for passed, amount in enumerate(amounts, start=1):
        freed -= amount
        if freed <= 0:
            return passed
    return len(amounts)
