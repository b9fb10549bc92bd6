"""The route cache: what a look costs, whom it waits for, and when a process may answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.names import Unit
from adapters.domain.principals import Principal, Role
from adapters.errors import NotFound, Unavailable
from service.reconcile.route_cache import MAX_UNKNOWN
from tests.service.world import World, offline

SUPPORT = Principal(id="key_1", role=Role.UNIT, unit=Unit("support"))


@pytest.fixture
def still(tmp_path: Path) -> Iterator[World]:
    """A service whose owners take a step when told."""
    with offline(tmp_path / "state") as world:
        yield world


class Counted:
    """A port that counts its calls, and may be made to do something else first."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            if name in self.before:
                self.before[name]()
            return getattr(self._port, name)(*args, **kwargs)

        return call


def admits(world: World) -> bool:
    return world.runtime.swap.membership.admits


def count_looks(world: World) -> Counted:
    cache = world.runtime.swap.routes
    counted = Counted(cache._routes)
    cache._routes = counted
    return counted


async def resolve(world: World, model: str) -> str | None:
    try:
        return (await world.runtime.swap.routes.resolve(model, SUPPORT)).model
    except NotFound:
        return None


async def turning(world: World, *models: str) -> list[str | None]:
    """All of them asked for at once, while the cache takes its steps."""
    asked = asyncio.gather(*(resolve(world, model) for model in models))
    while not asked.done():
        await asyncio.sleep(0.001)
        await world.runtime.swap.routes.repeat.attempt()
    return await asked


async def test_an_unknown_version_costs_the_registry_nothing_after_the_first_look(
    still: World,
) -> None:
    still.publish("support")
    await still.settle(rounds=2)
    looks = count_looks(still)
    assert await turning(still, "support:99") == [None]
    assert looks.calls["changes"] == 0
    first = looks.calls["revision"]
    for _ in range(50):
        assert await resolve(still, "support:99") is None
    assert looks.calls["revision"] == first


async def test_misses_at_once_share_a_look(still: World) -> None:
    await still.settle(rounds=2)
    looks = count_looks(still)
    names = [f"support:{number}" for number in range(1, 101)]
    assert await turning(still, *names) == [None] * 100
    assert looks.calls["revision"] <= 3


@pytest.mark.parametrize("model", ["nothing:1", "hr:1", "support", "../x:1", "support:0"])
async def test_what_no_version_of_the_callers_can_be_called_costs_no_look_at_all(
    still: World, model: str
) -> None:
    await still.settle(rounds=2)
    looks = count_looks(still)
    assert await resolve(still, model) is None
    assert looks.calls["revision"] == 0


async def test_a_version_published_a_moment_ago_is_found(still: World) -> None:
    await still.settle(rounds=2)
    version = still.publish("support")
    assert await turning(still, version.name) == [version.name]


async def test_a_name_that_was_unknown_is_found_once_it_is_published(still: World) -> None:
    await still.settle(rounds=2)
    assert await turning(still, "support:1") == [None]
    still.publish("support")
    await still.runtime.swap.routes.repeat.attempt()
    assert await resolve(still, "support:1") == "support:1"


async def test_unknown_names_take_a_bounded_room(still: World) -> None:
    await still.settle(rounds=2)
    cache = still.runtime.swap.routes
    for number in range(MAX_UNKNOWN + 10):
        cache._note_unknown(f"support:{number}")
    assert len(cache._unknown) == MAX_UNKNOWN


async def test_a_look_that_fails_says_so_and_does_not_say_that_the_name_is_unknown(
    still: World,
) -> None:
    await still.settle(rounds=2)

    def fail() -> None:
        raise Unavailable("away")

    count_looks(still).before["revision"] = fail
    asked = asyncio.create_task(still.runtime.swap.routes.resolve("support:1", SUPPORT))
    await asyncio.sleep(0)
    await still.runtime.swap.routes.repeat.attempt()
    with pytest.raises(Unavailable):
        await asked


async def test_nothing_is_admitted_before_the_newest_revision_is_the_one_routed_by(
    still: World,
) -> None:
    swap = still.runtime.swap
    await swap.routes.repeat.attempt()
    assert swap.routes.synced
    assert not admits(still), "it is not registered: nobody would wait for it"
    await swap.heartbeat.repeat.attempt()
    replicas = Counted(swap.routes._replicas)
    swap.routes._replicas = replicas

    # something changes between the look and the word of it, once
    def publish_meanwhile() -> None:
        replicas.before.clear()
        still.publish("support")

    replicas.before["observe"] = publish_meanwhile
    await swap.routes.repeat.attempt()
    assert not admits(still)
    await swap.routes.repeat.attempt()
    assert admits(still)
    assert still.runtime.table.knows("support:1")


async def test_what_is_observed_is_reported_once(still: World) -> None:
    await still.settle(rounds=2)
    cache = still.runtime.swap.routes
    replicas = Counted(cache._replicas)
    cache._replicas = replicas
    for _ in range(5):
        await cache.repeat.attempt()
    assert replicas.calls["observe"] == 0
    still.publish("support")
    for _ in range(5):
        await cache.repeat.attempt()
    assert replicas.calls["observe"] == 1


async def test_a_retired_replica_registers_and_observes_again_before_it_answers(
    still: World,
) -> None:
    await still.settle(rounds=2)
    swap = still.runtime.swap
    still.runtime.registry.replicas.leave(swap.membership.process)
    still.publish("support")
    await swap.routes.repeat.attempt()
    assert not admits(still)
    await swap.heartbeat.repeat.attempt()
    assert not admits(still)
    await swap.routes.repeat.attempt()
    assert admits(still)


async def test_a_gauge_says_when_the_registry_was_read_last(still: World) -> None:
    read = still.runtime.metrics.registry_read
    began = time.time()
    await still.runtime.swap.routes.repeat.attempt()
    last = read._value.get()
    assert began <= last <= time.time()
    count_looks(still).before["revision"] = refuse
    await still.runtime.swap.routes.repeat.attempt()
    assert read._value.get() == last


def refuse() -> None:
    raise Unavailable("the database is away")
