"""Bounds a regular expression by its structure: length, nesting and repetitions.

It is scanned once, character by character, and neither compiled nor understood: what matters is
how much a compiler would have to unfold.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

MAX_LENGTH = 1_000
MAX_NESTING = 16
"""Of parentheses."""
MAX_REPETITIONS = 10_000
"""`{m,n}` counts as its greater number, multiplied by those of the groups around it:
`(a{2}b{3}){10}` has 10 + 10·2 + 10·3.
"""

_QUANTIFIER = re.compile(r"\{\s*([0-9]*)\s*,?\s*([0-9]*)\s*\}")


@dataclass(frozen=True)
class Shape:
    """How deep a pattern's groups are nested, and what it repeats, unfolded."""

    nesting: int
    repetitions: int


def measure(pattern: str, *, refuse: Callable[[str], Exception]) -> Shape:
    """The shape of a pattern. Raises what `refuse` makes of `may have …` where it is too much."""
    if len(pattern) > MAX_LENGTH:
        raise refuse(f"may have patterns of at most {MAX_LENGTH} characters")
    found = shape(pattern)
    if found.nesting > MAX_NESTING:
        raise refuse(f"may nest parentheses in a pattern at most {MAX_NESTING} deep")
    if found.repetitions > MAX_REPETITIONS:
        raise refuse(f"may ask for at most {MAX_REPETITIONS} repetitions in a pattern")
    return found


def shape(pattern: str) -> Shape:
    """Scans a pattern. A group's own repetitions are known before its number is: a stack holds
    the sums of the groups that are open.
    """
    sums, closed, deepest, at = [0], 0, 0, 0
    while at < len(pattern):
        character = pattern[at]
        quantifier = _QUANTIFIER.match(pattern, at) if character == "{" else None
        if character == "\\":
            closed, at = 0, at + 2
            continue
        if quantifier is not None:
            times = max(int(number or 0) for number in quantifier.groups())
            # the group before it is counted once already
            sums[-1] += times + max(0, times - 1) * closed
            closed, at = 0, quantifier.end()
            continue
        if character == "[":
            at = _end_of_class(pattern, at)
        elif character == "(":
            sums.append(0)
            deepest = max(deepest, len(sums) - 1)
        closed = 0
        if character == ")" and len(sums) > 1:
            closed = sums.pop()
            sums[-1] += closed
        at += 1
    return Shape(nesting=deepest, repetitions=sum(sums))


def _end_of_class(pattern: str, at: int) -> int:
    """Where `[…]` ends; the pattern's end where it does not. Inside, brackets mean themselves."""
    at += 2 if pattern.startswith("[^", at) else 1
    first = at
    while at < len(pattern) and (pattern[at] != "]" or at == first):
        at += 2 if pattern[at] == "\\" else 1
    return at
