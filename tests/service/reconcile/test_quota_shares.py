"""An engine's shares: asked for beside the heartbeat, and at once where somebody was refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.domain.limits import Quota
from adapters.domain.names import Digest
from adapters.registry.ports import Claim, ProcessId, Registration
from service.reconcile.quota_shares import AGAIN_SECONDS, ASK_SECONDS
from tests.clock import Clock
from tests.service.world import World, offline, write_units

OTHER = ProcessId(replica="other", incarnation="1")
TOKENS, DAY = Quota.TOKENS_PER_MINUTE, Quota.TOKENS_PER_DAY
LIMIT = 8000


@pytest.fixture
def world(tmp_path: Path, clock: Clock) -> Iterator[World]:
    limits = f"limits: {{tokens_per_minute: {LIMIT}, tokens_per_day: {LIMIT}}}\n"
    write_units(tmp_path / "units", {"support": limits})
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
