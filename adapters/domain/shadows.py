"""Shadows: what a version that never answers was compared by."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """Copies of requests, and how their answers compare with those that callers got.

    Sums, so that those of several processes add up; no text is kept.
    """

    copies: int = 0
    """Copies that were answered and compared."""
    errors: int = 0
    """Copies that failed."""
    dropped: int = 0
    """Requests that were to be copied and were not: the engine had other work."""
    agreed: int = 0
    """Answers that say the same, to the letter."""
    characters: int = 0
    stable_characters: int = 0
    seconds: float = 0.0
    stable_seconds: float = 0.0

    def __add__(self, other: Comparisons) -> Comparisons:
        names = (field.name for field in fields(self))
        return Comparisons(**{name: getattr(self, name) + getattr(other, name) for name in names})
