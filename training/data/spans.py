"""Where in a text something is that must not be learnt, and who finds it."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from adapters.domain.data_policy import Entity


@dataclass(frozen=True, kw_only=True)
class Span:
    """A place in a text. `entity` is None for a secret."""

    start: int
    end: int
    entity: Entity | None
    subject: str = ""
    """Whose it is, as a pseudonym is made of."""
    rank: int = 0
    """Of two that overlap, the one of higher rank stays; of equals, the longer."""


class Finder(Protocol):
    """Finds what must not be learnt."""

    def find(self, text: str) -> Iterable[Span]:
        """Every place, in any order; they may overlap."""
        ...


def without_overlaps(spans: Iterable[Span]) -> list[Span]:
    """Those that stay, in the order of the text."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda each: (-each.rank, each.start - each.end, each.start)):
        at = bisect(kept, span.start, key=lambda each: each.start)
        behind = kept[at - 1].end if at else 0
        before = kept[at].start if at < len(kept) else span.end
        if behind <= span.start and span.end <= before:
            kept.insert(at, span)
    return kept


def replaced(text: str, spans: Iterable[tuple[Span, str]]) -> str:
    """The text with each span's replacement in its place; spans in order, without overlaps."""
    return "".join(_pieces(text, spans))


def _pieces(text: str, spans: Iterable[tuple[Span, str]]) -> Iterator[str]:
    at = 0
    for span, instead in spans:
        yield text[at : span.start]
        yield instead
        at = span.end
    yield text[at:]
