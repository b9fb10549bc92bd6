"""Says in headers what an account may still ask for: OpenAI's `x-ratelimit-*`.

Of several accounts with a limit the tightest is told. `reset` is when all of it is free again, if
nothing else is asked for meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

from adapters.domain.limits import Quota, Traffic
from adapters.domain.principals import Principal
from adapters.errors import EngineUnavailable
from service import http_errors
from service.engine.meters import Meters, Moment
from service.engine.minute_window import SLOT_SECONDS, SLOTS
from service.gateway.admit import Metered, accounts_of, metered
from service.runtime import Runtime


def headers_for(runtime: Runtime, principal: Principal) -> http_errors.Headers:
    """For whoever asks for something that spends none of it; nothing where that cannot be told."""
    accounts = accounts_of(runtime, principal, Traffic.INTERACTIVE)
    with suppress(EngineUnavailable):
        limited = metered(runtime, [each for each in accounts if each.limits.quotas])
        return rate_headers(runtime.meters, limited)
    return []


def rate_headers(meters: Meters, accounts: Sequence[Metered]) -> http_errors.Headers:
    """For each quota of a minute that one of the accounts has."""
    now = meters.now()
    headers: http_errors.Headers = []
    for quota, named_limit, named_remaining, named_reset in _NAMED:
        of_each = [_told(each, quota, now) for each in accounts if each[1].most[quota] is not None]
        if of_each:
            remaining, limit, reset = min(of_each) if len(of_each) > 1 else of_each[0]
            headers.append((named_limit, limit))
            headers.append((named_remaining, b"%d" % remaining if remaining > 0 else b"0"))
            headers.append((named_reset, reset))
    return headers


def _told(account: Metered, quota: Quota, now: Moment) -> tuple[int, bytes, bytes]:
    """What remains, the limit, and when all of it is free."""
    meter, limits = account
    limit, told = limits.most[quota], limits.told[quota]
    assert limit is not None  # noqa: S101 - asked only where there is one
    assert told is not None  # noqa: S101
    meter.move(now)
    remaining = limit - meter.used(quota, now) - meter.elsewhere(quota, now)
    return remaining, told, _RESETS[meter.slots_until_free(quota, now)]


def duration(seconds: float) -> bytes:
    """`12ms`, `59s`, `6m0s`: never less than it takes."""
    if seconds < 1.0:
        return b"%dms" % math.ceil(seconds * 1000.0)
    minutes, rest = divmod(math.ceil(seconds), 60)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest


_NAMED = (
    (
        Quota.REQUESTS_PER_MINUTE,
        b"x-ratelimit-limit-requests",
        b"x-ratelimit-remaining-requests",
        b"x-ratelimit-reset-requests",
    ),
    (
        Quota.TOKENS_PER_MINUTE,
        b"x-ratelimit-limit-tokens",
        b"x-ratelimit-remaining-tokens",
        b"x-ratelimit-reset-tokens",
    ),
)
_RESETS = tuple(duration(slots * SLOT_SECONDS) for slots in range(SLOTS + 1))
