"""Quotas: shares of what is limited for all replicas together.

What is decided here is asked for every few seconds and never by a request: a replica says what it
has used of each quota and what it was asked for in vain, and gets the share that it may use up
before it asks again (`adapters.domain.limits.next_share`).
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from adapters.domain.limits import Quota
from adapters.registry.ports.replicas import ProcessId


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a replica says of one quota of one account."""

    account: str
    quota: Quota
    period: int
    """The day's or month's number; 0 for a minute's."""
    limit: int
    used: int
    """By this life of the replica, all of its processes together; of what is in flight, the most
    of late.
    """
    wanted: int
    """Asked for in vain since the last claim."""
    holds: int = 0
    """What it goes by until it hears the answer: until then nobody else is given any of that."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What it may use."""

    claim: Claim
    share: int
    elsewhere: int
    """What all others have used."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """The answer to a replica's claims."""

    at: float
    """The registry's time."""
    replicas: int
    """Those that report, this one included."""
    shares: Sequence[Share]
    active: AbstractSet[str]
    """Accounts that other replicas have claimed for lately."""


class Quotas(Protocol):
    """Keeps what replicas use and may use."""

    def share(self, process: ProcessId, claims: Sequence[Claim]) -> Shares:
        """Gives a share for each claim; saying the same again changes nothing but the time.

        No two replicas are given shares at once, so that all together are at most the limit.
        """
        ...
