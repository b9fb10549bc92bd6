"""Preferences as training reads them: two answers to each prompt, and how likely both were.

How likely they were is measured once, before the first step, by the model that training begins
with: the base, or the version that is trained further. It needs no second model in memory, no
second pass in each step, and a run that goes on finds the very numbers it began with.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from adapters.durable_files import write_private
from training.data.preferences import Pair, Preference, Thumb
from training.data.render import Rendered

Measure = Callable[[Sequence[Rendered]], list[float]]
"""The log-probability (nats) of what is learnt of each sequence."""
AT_ONCE = 256
"""Rows that are measured between two looks at whether to stop."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One preference; `…_then` is the log-probability (nats) of an answer before training."""

    answer: Rendered
    """The chosen one, or the one with a thumb."""
    other: Rendered
    """The rejected one, or an answer that belongs to another prompt."""
    answer_then: float
    other_then: float
    liked: bool = True

    def __len__(self) -> int:
        return len(self.answer) + len(self.other)


class ComparedRows(Sequence[Compared]):
    """Preferences with what was measured of them, each read when it is asked for."""

    def __init__(self, rows: Sequence[Preference], then: Sequence[Sequence[float]]) -> None:
        """`then` has two numbers for each row."""
        self._rows, self._then = rows, then

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Compared: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Compared]: ...
    def __getitem__(self, at: int | slice) -> Compared | Sequence[Compared]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        row, (answer_then, other_then) = self._rows[at], self._then[at]
        answer, other = both_of(self._rows, at)
        return Compared(
            answer=answer,
            other=other,
            answer_then=float(answer_then),
            other_then=float(other_then),
            liked=row.liked if isinstance(row, Thumb) else True,
        )


def compare(
    rows: Sequence[Preference], kept: Path, measure: Measure, *, alive: Callable[[], None]
) -> ComparedRows:
    """The rows with their numbers: those in the file `kept`, else measured and kept there.

    `alive` is called now and then and may raise. Raises OSError when the disk has no room.
    """
    if not kept.is_file():
        found: list[float] = []
        for start in range(0, len(rows), AT_ONCE):
            alive()
            some = range(start, min(start + AT_ONCE, len(rows)))
            found += measure([read for at in some for read in both_of(rows, at)])
        file = io.BytesIO()
        np.save(file, np.array(found, np.float32).reshape(len(rows), 2), allow_pickle=False)
        write_private(kept, file.getvalue())
    return ComparedRows(rows, np.load(kept, allow_pickle=False))


def both_of(rows: Sequence[Preference], at: int) -> tuple[Rendered, Rendered]:
    """The two sequences that are compared for a row."""
    row = rows[at]
    if isinstance(row, Pair):
        return row.chosen, row.rejected
    following = rows[(at + 1) % len(rows)]
    if not isinstance(following, Thumb):
        raise TypeError("rows are of one kind")
    return row.answered, _behind_the_prompt_of(row.answered, following.answered)


def _behind_the_prompt_of(row: Rendered, another: Rendered) -> Rendered:
    """The answer of another row behind this one's prompt, no longer than the longer of the two.

    Only a mean over many is made of it: what is cut changes little, and memory is planned for rows
    as they are.
    """
    start, theirs = row.learn.index(True), another.learn.index(True)
    ids = (*row.ids[:start], *another.ids[theirs:])[: max(len(row), len(another))]
    return Rendered(ids=ids, learn=tuple(at >= start for at in range(len(ids))))
