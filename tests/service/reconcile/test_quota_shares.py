"""An engine's shares: asked for beside the heartbeat, and at once where somebody was refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.domain.limits import Quota
from adapters.domain.names import Digest, Unit
from adapters.domain.principals import Principal, Role
from adapters.errors import RateLimited
from adapters.registry.ports import Claim, ProcessId, Registration
from service.gateway.admit import Visit
from service.reconcile.quota_shares import AGAIN_SECONDS, ASK_SECONDS
from tests.clock import Clock
from tests.service.world import World, offline, write_units

OTHER = ProcessId(replica="other", incarnation="1")
TOKENS, DAY = Quota.TOKENS_PER_MINUTE, Quota.TOKENS_PER_DAY
LIMIT = 8000
SUPPORT = Principal(id="key_1", role=Role.UNIT, unit=Unit("support"))


@pytest.fixture
def world(tmp_path: Path, clock: Clock) -> Iterator[World]:
    limits = f"tokens_per_minute: {LIMIT}, tokens_per_day: {LIMIT}, max_concurrent_requests: 64"
    write_units(tmp_path / "units", {"support": f"limits: {{{limits}}}\n"})
    with offline(tmp_path / "state", clock=clock) as made:
        yield made


def beside(world: World) -> None:
    """Another replica reports."""
    world.runtime.registry.replicas.register(
        Registration(process=OTHER, base_fingerprint=Digest("b" * 64), limits={})
    )


def allowed(world: World, quota: Quota = TOKENS) -> int:
    meters = world.runtime.meters
    return meters.of("unit:support").allowed(quota, LIMIT, meters.now())


async def ask(world: World, clock: Clock, *, pass_: float = ASK_SECONDS) -> None:
    clock.now += pass_
    while await world.runtime.swap.quotas.step():
        pass


async def test_alone_an_engine_has_all_and_beside_another_its_part(
    world: World, clock: Clock
) -> None:
    await world.settle()
    await ask(world, clock)
    assert (allowed(world), allowed(world, DAY)) == (LIMIT, LIMIT)
    beside(world)
    await ask(world, clock, pass_=AGAIN_SECONDS)
    assert allowed(world) == LIMIT // 4, "an unused share is half of its even part"
    assert allowed(world, DAY) <= LIMIT - LIMIT // 4


async def test_who_was_refused_makes_it_ask_at_once(world: World, clock: Clock) -> None:
    beside(world)
    await world.settle()
    await ask(world, clock)
    meter = world.runtime.meters.of("unit:support")
    meter.want(TOKENS, 5000)
    await ask(world, clock, pass_=0.5)
    assert allowed(world) >= 5000
    wanted = world.runtime.registry.quotas.share(OTHER, []).active
    assert "unit:support" in wanted


async def test_what_another_uses_is_known_and_never_given_twice(world: World, clock: Clock) -> None:
    beside(world)
    await world.settle()
    await ask(world, clock)
    claim = Claim(
        account="unit:support", quota=TOKENS, period=0, limit=LIMIT, used=0, wanted=10 * LIMIT
    )
    share = world.runtime.registry.quotas.share(OTHER, [claim]).shares[0].share
    await ask(world, clock)
    assert allowed(world) + share <= LIMIT
    meters = world.runtime.meters
    assert meters.of("unit:support").elsewhere(TOKENS, meters.now()) == 0


AT_ONCE = Quota.CONCURRENT_REQUESTS


def at_once(world: World) -> int:
    """What the engine may have in flight."""
    meters = world.runtime.meters
    return meters.of("unit:support").allowed(AT_ONCE, 64, meters.now())


async def test_what_is_in_flight_is_shared_as_rates_are(world: World, clock: Clock) -> None:
    await world.settle()
    await ask(world, clock)
    assert at_once(world) == 64
    beside(world)
    await ask(world, clock)
    assert at_once(world) == 16, "half of an even part, for a first request waits for nobody"
    meter = world.runtime.meters.of("unit:support")
    meter.hold_requests(16)
    meter.want(AT_ONCE, 20)
    await ask(world, clock, pass_=0.5)
    assert 36 <= at_once(world) <= 48, "more of what nobody else needs"
    meter.hold_requests(-16)
    await ask(world, clock)
    burst = at_once(world)
    assert burst >= 16, "requests come in bursts: what was in flight a moment ago keeps its share"
    claim = Claim(
        account="unit:support", quota=AT_ONCE, period=0, limit=64, used=0, wanted=64
    )  # fmt: skip
    other = world.runtime.registry.quotas.share(OTHER, [claim]).shares[0].share
    assert at_once(world) + other <= 64
    for _ in range(20):
        # by the database's own clock nobody may fall silent here, however slow the machine is
        await world.runtime.swap.heartbeat.repeat.attempt()
        world.runtime.registry.replicas.heartbeat(OTHER, ready=True, lease_seconds=15.0)
        await ask(world, clock)
        other = world.runtime.registry.quotas.share(OTHER, [claim]).shares[0].share
        assert at_once(world) + other <= 64
        if other >= 48:
            break
    assert other >= 48, "what is not needed any more goes where it is asked for"


async def test_who_is_refused_beside_what_is_free_elsewhere_makes_it_ask(
    world: World, clock: Clock
) -> None:
    beside(world)
    await world.settle()
    await ask(world, clock)
    visits = [Visit(world.runtime, SUPPORT) for _ in range(17)]
    for visit in visits[:16]:
        visit.__enter__()
    with pytest.raises(RateLimited, match="64 requests at once"):
        visits[16].__enter__()
    await ask(world, clock, pass_=0.5)
    visits[16].__enter__()
    for visit in visits:
        visit.__exit__()
    assert world.runtime.meters.of("unit:support").requests == 0


async def test_a_registry_that_is_away_leaves_the_share_and_then_the_even_half(
    world: World, clock: Clock
) -> None:
    beside(world)
    await world.settle()
    world.runtime.meters.of("unit:support").want(TOKENS, 5000)
    await ask(world, clock)
    assert allowed(world) >= 5000
    clock.now += 20.0
    assert allowed(world) >= 5000
    clock.now += 20.0
    assert allowed(world) == LIMIT // 4
