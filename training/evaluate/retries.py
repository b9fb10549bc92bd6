"""When a question to the service is worth asking again: a pure decision.

The service may restart, reload a hundred versions or be full while a candidate is evaluated; a
version published a moment ago may not be known everywhere yet. Training cost minutes, so waiting
some is cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

LONGEST_PAUSE = 10.0
"""Seconds; what the service asks for (`Retry-After`) is obeyed up to this."""


class Verdict(Enum):
    """What a failed attempt means."""

    AGAIN = auto()
    """Ask again after a pause."""
    GIVE_UP = auto()
    """The service as a whole cannot be used."""
    MODEL_REFUSED = auto()
    """The service works, but not with this model."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long (seconds) a run of failures of one kind is tolerated."""

    unavailable: float = 1800.0
    """No connection, 429, 502, 503, 504: a restart or a full queue."""
    unknown_model: float = 120.0
    """404: a version that the service has not seen yet."""
    failing: float = 20.0
    """500: the engine could not do it; perhaps it cannot with this model at all."""
    altogether: float = 3600.0
    """Of failures of all kinds in turn."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A run of failures: what kind, since when, and since when there is any trouble at all."""

    kind: str
    since: float
    began: float

    def then(self, status: int | None, *, now: float) -> Trouble:
        """The trouble after one more failure."""
        kind = _kind(status)
        return Trouble(kind=kind, since=self.since if kind == self.kind else now, began=self.began)


def first_trouble(status: int | None, *, now: float) -> Trouble:
    """The trouble after a first failure."""
    return Trouble(kind=_kind(status), since=now, began=now)


def judge(trouble: Trouble, *, now: float, patience: Patience) -> Verdict:
    """What to do next. A status that waiting cannot change (400, 401, …) ends it at once."""
    waited = now - trouble.since
    if now - trouble.began >= patience.altogether:
        return Verdict.GIVE_UP
    match trouble.kind:
        case "unavailable":
            return Verdict.AGAIN if waited < patience.unavailable else Verdict.GIVE_UP
        case "unknown_model":
            return Verdict.AGAIN if waited < patience.unknown_model else Verdict.MODEL_REFUSED
        case "failing":
            return Verdict.AGAIN if waited < patience.failing else Verdict.MODEL_REFUSED
        case _:
            return Verdict.GIVE_UP


def pause(attempt: int, *, retry_after: str | None) -> float:
    """Seconds to wait after attempt `attempt` (0 is the first): what was asked, or doubling."""
    try:
        asked = float(retry_after) if retry_after else None
    except ValueError:
        asked = None
    wanted = asked if asked is not None else 0.25 * 2 ** min(attempt, 8)
    return min(max(wanted, 0.05), LONGEST_PAUSE)


def _kind(status: int | None) -> str:
    if status is None or status in (408, 429, 502, 503, 504):
        return "unavailable"
    if status == 404:
        return "unknown_model"
    return "failing" if status >= 500 else "refused"
