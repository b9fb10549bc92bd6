"""Usage: requests, tokens and cost by day, unit, alias, version and kind of traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from adapters.domain.limits import Traffic
from adapters.domain.principals import Principal

NANO = 1_000_000_000
"""Costs are whole numbers of billionths of the currency."""


class UsageKey(NamedTuple):
    """What usage is told apart by, beside the day."""

    unit: str
    """A unit, or the role of a caller that has none."""
    alias: str
    version: str
    """`base` for the base model."""
    traffic: Traffic


@dataclass(frozen=True, kw_only=True)
class Used:
    """How much."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano: int = 0


@dataclass(frozen=True, kw_only=True)
class DayUsage:
    """One day of one key."""

    day: int
    """Days since 1970, in UTC."""
    key: UsageKey
    used: Used


class UsageLedger(Protocol):
    """Adds up what requests have used."""

    def add(self, writer: str, batch: int, used: Sequence[tuple[UsageKey, Used]]) -> None:
        """Adds to the present day. A batch of a writer's that was added before is not again.

        A writer is one life of one process; its batches are numbered from 1, and each is repeated
        until it has been acknowledged.
        """
        ...

    def of_version(self, principal: Principal, version: str) -> Sequence[DayUsage]:
        """What the principal may see of one version's use on all days, oldest first."""
        ...

    def days(self, principal: Principal, *, since: int, until: int) -> Sequence[DayUsage]:
        """What the principal may see of the days from `since` to before `until`, oldest first."""
        ...
