"""Admits requests: what each may use is reserved before, and settled by what it used.

A *visit* is a request that has come in; it counts as in flight before a byte of its body is read.
`admit` makes a *permit* of it: the version it is answered by with a lease, a turn in the engine,
and reservations from every quota of its caller's accounts. Whoever leaves the permit gives all of
that back, and what was reserved and not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from adapters.domain.limits import Account, Limits, Quota, Traffic, Usage
from adapters.domain.principals import Principal, Role
from adapters.errors import (
    Draining,
    InvalidRequest,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    WardrobeError,
)
from service.engine.leases import Lease
from service.engine.meters import Meter, Moment
from service.engine.minute_window import SLOT_SECONDS
from service.engine.turns import Load, Turn
from service.gateway.cost import Cost, cost_of
from service.reconcile.route_table import Target
from service.runtime import Runtime

SHARE_SECONDS = 1.0
"""After which a share has grown that was too small while others had room, or a request has ended.
"""
_ONE = Cost(sequences=1, tokens=Usage())
"""A request whose body nobody has read yet."""


Metered = tuple[Meter, Limits]
"""An account: what it uses, and what it may."""


class Visit:
    """One request, from its first byte to its last; a context manager.

    Raises RateLimited where an account has as many requests in flight as it may.
    """

    def __init__(
        self, runtime: Runtime, principal: Principal, traffic: Traffic = Traffic.INTERACTIVE
    ) -> None:
        self.runtime = runtime
        self.principal = principal
        self.traffic = Traffic.EVALUATION if principal.role is Role.TRAINER else traffic
        self.accounts = metered(runtime, accounts_of(runtime, principal, self.traffic))

    def __enter__(self) -> Self:
        for meter, _limits in self.accounts:
            meter.hold_requests(1)
        for meter, limits in self.accounts:
            most = limits.most[Quota.CONCURRENT_REQUESTS]
            if most is not None and (meter.is_shared or meter.requests > most):
                now = self.runtime.meters.now()
                refusal = _refusal(meter, Quota.CONCURRENT_REQUESTS, most, _ONE, now)
                if refusal is not None:
                    self.__exit__()
                    raise refusal
        return self

    def __exit__(self, *_: object) -> None:
        for meter, _limits in self.accounts:
            meter.hold_requests(-1)

    @property
    def lane(self) -> tuple[str, float]:
        """Where it waits for the engine, and with which weight."""
        if self.traffic is not Traffic.INTERACTIVE:
            return f"traffic:{self.traffic}", 1.0
        return self.principal.owner, self.accounts[0][1].weight


def accounts_of(runtime: Runtime, principal: Principal, traffic: Traffic) -> Sequence[Account]:
    """Whose limits a request is admitted by; the first is who its requests in flight count for.

    Evaluation and shadow traffic use nobody's allowance.
    """
    if traffic is Traffic.INTERACTIVE:
        return runtime.units.current.accounts_of(principal)
    return [Account(name=f"traffic:{traffic}", limits=Limits())]


def metered(runtime: Runtime, accounts: Sequence[Account]) -> Sequence[Metered]:
    """Raises EngineUnavailable where an engine has more accounts than it can tell apart."""
    return [(runtime.meters.of(each.name), each.limits) for each in accounts]


class Permit:
    """One admitted request's hold on everything that it uses; a context manager."""

    def __init__(self, visit: Visit, cost: Cost) -> None:
        """Reserves. Raises as `reserve`."""
        self.visit = visit
        self.cost = cost
        self.target: Target
        self._used: Usage | None = None
        self._lease: Lease | None = None
        self._turn: Turn | None = None
        self._moment = reserve(visit, cost)

    async def enter_engine(self, target: Target, model: str, lot: str) -> None:
        """Waits for a turn where the engine is busy, and for the version where it is not loaded;
        where a canary cannot be served, it becomes the stable version's. `target` is what `model`
        means now.

        What is resolved, whether anything may be admitted, and the lease are one look: no await
        between the three, or a flip, a drain or an unload could come in between. At the other end,
        `RouteTable.apply` has none either, and a drain waits for leases and nothing else.
        """
        runtime, (lane, weight) = self.visit.runtime, self.visit.lane
        load = load_of(self.cost)
        self._turn = runtime.turns.take(lane, weight, load)
        if self._turn is None:
            self._turn = await runtime.turns.wait(lane, weight, load)
            target = runtime.table.resolve(model, self.visit.principal, lot)
        drawn_by: str | None = lot
        while True:
            check_open(runtime)
            lease = runtime.leases.take(target.version.id if target.version else None)
            if lease is not None:
                self.target, self._lease = target, lease
                return
            if not await _load(runtime, target):
                drawn_by = None
            target = runtime.table.resolve(model, self.visit.principal, drawn_by)

    @property
    def unit(self) -> str:
        """What it is counted under: a unit, or the caller's role."""
        return str(self.target.unit or self.visit.principal.role)

    def note_usage(self, used: Usage) -> None:
        """Says what the request has used, once, before the permit is left."""
        self._used = used
        target = self.target
        self.visit.runtime.swap.usage.note(
            (self.unit, target.alias, target.version_name, self.visit.traffic), used
        )

    def words(self) -> Mapping[str, Any]:
        """What the engine is told in addition to the caller's words, or instead of them."""
        words = {"model": self.target.model, "cache_salt": self.target.salt}
        priority = self.visit.traffic.priority
        if priority and self.visit.runtime.engine.limits.get("scheduling") == "priority":
            return {**words, "priority": priority}
        return words

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lease is not None:
            self._lease.__exit__()
        used = self._used or Usage()
        if self._turn is not None:
            self._turn.used = used.total
            self._turn.__exit__()
        settle(self.visit, self.cost, used, self._moment)


async def admit(visit: Visit, body: Mapping[str, Any], lot: str) -> Permit:
    """A permit for a request with this clean body; `lot` is what it is drawn by.

    Raises NotFound, InvalidRequest, RateLimited, QuotaExceeded, Unavailable.
    """
    runtime, model = visit.runtime, body["model"]
    # first, for what is unknown is refused for free
    target = await runtime.swap.routes.resolve(model, visit.principal, lot)
    longest = runtime.engine.limits.get("max_model_len", runtime.settings.max_model_len)
    permit = Permit(visit, cost_of(body, longest=longest))
    try:
        await permit.enter_engine(target, model, lot)
    except BaseException:
        permit.__exit__()
        raise
    return permit


def load_of(cost: Cost) -> Load:
    """What a request of this cost is to the engine."""
    return Load(cost.sequences, cost.tokens.total)


async def _load(runtime: Runtime, target: Target) -> bool:
    """Waits until its version answers; False for a canary that cannot be loaded now."""
    assert target.version is not None  # noqa: S101 - the base always has a lease
    try:
        await runtime.swap.loader.ensure(target.version)
    except WardrobeError:
        if target.canary is not None or target.trial is None:
            raise  # it is no canary
        runtime.swap.trials.note(target, failed=True, seconds=0.0)
        return False
    return True


# -- reservations


def reserve(visit: Visit, cost: Cost) -> Moment:
    """Counts the cost for every account, or for none.

    Raises InvalidRequest, RateLimited, QuotaExceeded.
    """
    now, tokens = visit.runtime.meters.now(), cost.tokens.total
    for _, limits in visit.accounts:
        _check_possible(limits, cost.sequences, tokens)
    for meter, _ in visit.accounts:
        meter.move(now)
        meter.hold_sequences(cost.sequences)
        meter.charge(now, requests=1, tokens=tokens)
    for meter, limits in visit.accounts:
        refusal = _first_refusal(meter, limits, cost, now)
        if refusal is not None:
            _take_back(visit, cost, now)
            raise refusal
    return now


def settle(visit: Visit, cost: Cost, used: Usage, reserved_at: Moment) -> None:
    """Puts what was used in the place of what was reserved; what is more counts from now on."""
    more = used.total - cost.tokens.total
    now = visit.runtime.meters.now() if more > 0 else reserved_at
    for meter, _ in visit.accounts:
        meter.hold_sequences(-cost.sequences)
        if more > 0:
            meter.move(now)
        meter.charge(now, tokens=more)


def _take_back(visit: Visit, cost: Cost, now: Moment) -> None:
    for meter, _ in visit.accounts:
        meter.hold_sequences(-cost.sequences)
        meter.charge(now, requests=-1, tokens=-cost.tokens.total)


def _check_possible(limits: Limits, sequences: int, tokens: int) -> None:
    """What no waiting makes possible is the request's mistake, and no client repeats it."""
    most = limits.most[Quota.CONCURRENT_SEQUENCES]
    if most is not None and sequences > most:
        raise InvalidRequest(
            f"one request asks for {sequences} answers, and this unit may have {most} at once",
            param="n",
        )
    most = limits.most[Quota.TOKENS_PER_MINUTE]
    if most is not None and tokens > most:
        raise InvalidRequest(
            f"one request may use {tokens} tokens, and {most} a minute are allowed: "
            "ask for fewer with `max_tokens`, or send a shorter prompt",
            param="max_tokens",
        )


def _first_refusal(meter: Meter, limits: Limits, cost: Cost, now: Moment) -> WardrobeError | None:
    most = limits.most[Quota.CONCURRENT_SEQUENCES]
    if most is not None and (meter.is_shared or meter.sequences > most):
        refusal = _refusal(meter, Quota.CONCURRENT_SEQUENCES, most, cost, now)
        if refusal is not None:
            return refusal
    for quota, limit in limits.over_time:
        if meter.used(quota, now) > meter.allowed(quota, limit, now):
            return _refusal(meter, quota, limit, cost, now)
    return None


def _refusal(
    meter: Meter, quota: Quota, limit: int, cost: Cost, now: Moment
) -> WardrobeError | None:
    """Why an account that the cost is counted for already has no room for it."""
    used, allowed = meter.used(quota, now), meter.allowed(quota, limit, now)
    if used <= allowed:
        return None
    if quota.is_concurrent:
        free_elsewhere = allowed < limit  # now or in a moment
    else:
        free_elsewhere = used + meter.elsewhere(quota, now) <= limit
    if free_elsewhere:
        meter.want(quota, _asked(quota, cost))
    if free_elsewhere or quota.is_concurrent:
        return RateLimited(_words(quota, limit), retry_after=SHARE_SECONDS)
    if quota.is_budget:
        return QuotaExceeded(_words(quota, limit))
    slots = meter.slots_until(quota, used - allowed, now)
    return RateLimited(_words(quota, limit), retry_after=slots * SLOT_SECONDS)


def _asked(quota: Quota, cost: Cost) -> int:
    if quota in (Quota.REQUESTS_PER_MINUTE, Quota.CONCURRENT_REQUESTS):
        return 1
    return cost.sequences if quota is Quota.CONCURRENT_SEQUENCES else cost.tokens.total


def _words(quota: Quota, limit: int) -> str:
    if quota.is_concurrent:
        what = "requests" if quota is Quota.CONCURRENT_REQUESTS else "answers"
        return f"this would be more than {limit} {what} at once"
    what, _, window = quota.name.lower().partition("_per_")
    return f"this would be more than {limit} {what} a {window}"


# -- whether anything may be admitted


def check_running(runtime: Runtime) -> None:
    """Raises Draining."""
    if runtime.draining:
        raise Draining("this replica is shutting down")


def check_open(runtime: Runtime) -> None:
    """Raises Draining, Unavailable."""
    check_running(runtime)
    if not runtime.swap.membership.admits:
        raise Unavailable(
            "this replica may not answer before it has read the newest routes",
            code="replica_not_admitting",
        )
