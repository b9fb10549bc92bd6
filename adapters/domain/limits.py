"""What an account may use, and how replicas share a limit that holds for all of them together.

An account is whoever is limited: a unit, or a key. A *quota* is an amount in a window, a minute
that slides or a day or month of the calendar (UTC), or an amount at once. Of each quota every
replica has a *share*; it admits no more than that by itself, and the shares of all replicas are at
most the limit. So a request asks nobody, and the limit holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.errors import InvalidRequest

MAX_LIMIT = 10**15
"""Of anything: what is added up stays within 64 bits, whatever callers and settings say."""


class Quota(IntEnum):
    """What is limited; the number is its place in `Limits.most`."""

    REQUESTS_PER_MINUTE = 0
    TOKENS_PER_MINUTE = 1
    CONCURRENT_REQUESTS = 2
    CONCURRENT_SEQUENCES = 3
    TOKENS_PER_DAY = 4
    TOKENS_PER_MONTH = 5

    @property
    def is_concurrent(self) -> bool:
        """What is used of it comes back as soon as a request ends."""
        return self in (Quota.CONCURRENT_REQUESTS, Quota.CONCURRENT_SEQUENCES)

    @property
    def is_budget(self) -> bool:
        """What is used of a budget comes back with the next day or month and not before."""
        return self >= Quota.TOKENS_PER_DAY


class Traffic(StrEnum):
    """What a request is for."""

    INTERACTIVE = "interactive"
    """Somebody waits for the answer; only this uses a unit's allowance."""
    EVALUATION = "evaluation"
    """The trainer measures a version."""
    SHADOW = "shadow"
    """A copy whose answer nobody gets."""

    @property
    def priority(self) -> int:
        """vLLM's, where it schedules by priority: lower goes first."""
        return _PRIORITIES[self]


_PRIORITIES = {Traffic.INTERACTIVE: 0, Traffic.EVALUATION: 10, Traffic.SHADOW: 20}


class Usage(NamedTuple):
    """Tokens of one request, or of many."""

    prompt: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        """What limits count."""
        return self.prompt + self.completion


@dataclass(frozen=True, kw_only=True)
class Limits:
    """An account's limits; None is no limit."""

    most: tuple[int | None, ...] = (None,) * len(Quota)
    """By quota."""
    weight: float = 1.0
    """Its share of a saturated engine, beside the others'."""

    @staticmethod
    def of(most: Mapping[Quota, int | None], *, weight: float = 1.0) -> Limits:
        """With these; what is not named has no limit."""
        return Limits(most=tuple(most.get(quota) for quota in Quota), weight=weight)

    @cached_property
    def quotas(self) -> Sequence[tuple[Quota, int]]:
        """Those that there are."""
        each = zip(Quota, self.most, strict=True)
        return tuple((quota, most) for quota, most in each if most is not None)

    @cached_property
    def over_time(self) -> Sequence[tuple[Quota, int]]:
        """Those of a window: a minute, a day, a month."""
        return tuple(each for each in self.quotas if not each[0].is_concurrent)

    @cached_property
    def told(self) -> Sequence[bytes | None]:
        """`most` as headers say it."""
        return tuple(None if most is None else b"%d" % most for most in self.most)


class KeyLimits(BaseModel):
    """What a key may ask for within its unit's limits; None is no limit of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_concurrent_requests: int | None = Field(default=None, ge=1, le=MAX_LIMIT)
    requests_per_minute: int | None = Field(default=None, ge=1, le=MAX_LIMIT)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=MAX_LIMIT)
    tokens_per_day: int | None = Field(default=None, ge=0, le=MAX_LIMIT)
    tokens_per_month: int | None = Field(default=None, ge=0, le=MAX_LIMIT)

    @property
    def limits(self) -> Limits:
        """Those that a request is admitted by."""
        return Limits.of(
            {
                Quota.REQUESTS_PER_MINUTE: self.requests_per_minute,
                Quota.TOKENS_PER_MINUTE: self.tokens_per_minute,
                Quota.CONCURRENT_REQUESTS: self.max_concurrent_requests,
                Quota.TOKENS_PER_DAY: self.tokens_per_day,
                Quota.TOKENS_PER_MONTH: self.tokens_per_month,
            }
        )

    @property
    def said(self) -> Mapping[str, int]:
        """Those that there are, by name."""
        return self.model_dump(exclude_none=True)

    def over(self, usual: KeyLimits) -> KeyLimits:
        """These, and what is usual where they say nothing."""
        return KeyLimits.model_validate({**usual.said, **self.said})


NO_KEY_LIMITS = KeyLimits()


def parse_key_limits(text: str) -> KeyLimits:
    """`requests_per_minute=60,tokens_per_day=100000`; nothing is none. Raises InvalidRequest."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    said = {name.strip(): most.strip() for name, _, most in pairs}
    if len(said) == len(pairs):
        try:
            return KeyLimits.model_validate(said)
        except ValidationError:
            pass
    raise InvalidRequest(
        f"`limits` are each of {', '.join(KeyLimits.model_fields)} at most once, with a whole "
        "number: requests_per_minute=60,tokens_per_day=100000",
        param="limits",
    )


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whoever is limited, under a name that no other kind of account has."""

    name: str
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What another replica holds of a quota."""

    used: int
    share: int
    """What it may use: the more of what it was told last and what it went by until then."""
    wanted: int
    """What it was asked for and could not give."""
    reporting: bool
    """A silent replica's unused share is free again; what it used stays used."""


def entry_share(limit: int, replicas: int) -> int:
    """What a replica may use of a quota that it has no share of yet.

    Half of a limit is split like this, and of a small one a first request for each, so that it
    waits for nobody; the rest goes where it is asked for.
    """
    return limit if replicas <= 1 else limit // (2 * replicas) or min(1, limit // replicas)


def next_share(
    limit: int, *, used: int, wanted: int, others: Sequence[Holding], replicas: int
) -> int:
    """A replica's share: what it has used, what it was asked for and could not give, and room for
    what comes until it asks again.

    `replicas` counts all that report, this one too; those that hold nothing yet may use their entry
    share meanwhile. The shares of all are at most `limit`, as long as each was reckoned knowing the
    others; what is used is never taken back. Where another cannot give what it is asked for, this
    one asks for its even part at most, so that in the end each has that.
    """
    there = [each for each in others if each.reporting]
    taken = sum(max(each.used, each.share) if each.reporting else each.used for each in others)
    taken += entry_share(limit, replicas) * max(0, replicas - 1 - len(there))
    free = limit - taken
    if replicas <= 1:
        return max(used, free)
    even = limit // replicas
    left = max(0, limit - used - sum(each.used for each in others))
    asked = used + wanted + left // (2 * replicas)
    if any(each.wanted and each.share < even for each in there):
        asked = min(asked, even)
    return max(used, min(free, asked))
