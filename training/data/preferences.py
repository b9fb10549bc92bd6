"""Rows of preferences: which of two answers is better, or whether one is liked.

Each answer stands behind the very prompt that is served, and it alone is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from training.data.render import Rendered


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One prompt with the answer that was preferred, and with the one that was not."""

    chosen: Rendered
    rejected: Rendered


@dataclass(frozen=True, kw_only=True)
class Thumb:
    """One prompt with an answer, and what somebody's thumb said of it."""

    answered: Rendered
    liked: bool


Preference: TypeAlias = Pair | Thumb
Row: TypeAlias = Rendered | Preference


def sequences(row: Row) -> Sequence[Rendered]:
    """What of a row the model reads."""
    if isinstance(row, Pair):
        return (row.chosen, row.rejected)
    return (row.answered,) if isinstance(row, Thumb) else (row,)


def length(row: Row) -> int:
    """Tokens of a row."""
    return sum(map(len, sequences(row)))
