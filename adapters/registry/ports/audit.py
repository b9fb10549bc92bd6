"""The audit log, as it is read. Every command writes to it in its own transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.domain.audit import Entry, Head
from adapters.domain.names import Unit
from adapters.domain.pages import Page
from adapters.domain.principals import Principal


@dataclass(frozen=True, kw_only=True)
class Which:
    """Which entries are asked for; what is None is not asked."""

    unit: Unit | None = None
    actor: str | None = None
    action: str | None = None
    subject: str | None = None


class Audit(Protocol):
    """Reads what was changed, by whom and why; nothing changes an entry."""

    def list(
        self, principal: Principal, which: Which, *, after: str | None, limit: int
    ) -> Page[Entry]:
        """Newest first, those that concern the principal's unit; `after` is a number as text."""
        ...

    def head(self) -> Head:
        """The newest entry's number and hash."""
        ...

    def parts(self) -> Iterator[tuple[Sequence[Entry], Head]]:
        """The whole log in order, a part at a time, each with the head at that moment.

        Each part is a transaction of its own: a long log holds up nobody.
        """
        ...
