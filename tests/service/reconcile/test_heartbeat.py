"""The heartbeat, and what a replica does that cannot reach the registry."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.names import Digest
from adapters.errors import Unavailable
from adapters.registry.open import open_registry
from adapters.registry.ports import ProcessId, Registration
from adapters.registry.ports.replicas import REPORTING_SECONDS
from adapters.registry.sql.database import Database
from adapters.registry.sql.replica_rows import lock_processes
from service.reconcile.heartbeat import HEARTBEAT_SECONDS
from service.reconcile.registry_calls import PATIENCE_SECONDS
from tests.clock import Clock
from tests.servers.postgres import PostgresServer
from tests.service.world import World, offline


@pytest.fixture
def keeping(tmp_path: Path, clock: Clock) -> Iterator[World]:
    with offline(tmp_path / "state", clock=clock) as world:
        yield world


@pytest.fixture
def stopping(tmp_path: Path, clock: Clock) -> Iterator[World]:
    options: dict[str, Any] = {"on_registry_loss": "stop", "serving_lease_seconds": 15.0}
    with offline(tmp_path / "state", clock=clock, **options) as world:
        yield world


def admits(world: World) -> bool:
    return world.runtime.swap.membership.admits


class Away:
    """A port of a registry that cannot be reached; `slow` runs before it says so."""

    def __init__(self, slow: Any = lambda: None) -> None:
        self._slow = slow

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any, **__: Any) -> Any:
            self._slow()
            raise Unavailable("the database is away")

        return call


async def test_a_replica_that_keeps_answers_for_as_long_as_the_registry_is_away(
    keeping: World, clock: Clock
) -> None:
    await keeping.settle(rounds=2)
    keeping.runtime.swap.heartbeat._replicas = Away()
    clock.now += 3600.0
    await keeping.runtime.swap.heartbeat.repeat.attempt()
    assert admits(keeping)
    assert keeping.runtime.ready


async def test_a_replica_that_stops_admits_nothing_once_its_serving_lease_has_ended(
    stopping: World, clock: Clock
) -> None:
    await stopping.settle(rounds=2)
    heartbeat = stopping.runtime.swap.heartbeat
    clock.now += 14.9
    assert admits(stopping)
    port, heartbeat._replicas = heartbeat._replicas, Away()
    await heartbeat.repeat.attempt()
    clock.now += 0.2
    assert not admits(stopping)
    assert not stopping.runtime.ready
    heartbeat._replicas = port
    await heartbeat.repeat.attempt()
    assert admits(stopping)


async def test_a_serving_lease_begins_before_the_heartbeat_was_sent_and_not_when_it_was_answered(
    stopping: World, clock: Clock
) -> None:
    await stopping.settle(rounds=2)
    heartbeat = stopping.runtime.swap.heartbeat
    port = heartbeat._replicas

    class Slow:
        def heartbeat(self, *args: Any, **kwargs: Any) -> None:
            port.heartbeat(*args, **kwargs)
            clock.now += 10.0

    heartbeat._replicas = Slow()  # type: ignore[assignment]
    await heartbeat.repeat.attempt()
    clock.now += 5.1
    assert not admits(stopping)


async def test_a_killed_replica_is_replaced_by_its_next_start(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for _ in range(2):  # offline worlds leave without a word
        with offline(state) as world:
            await world.settle(rounds=2)
            listed = world.runtime.registry.replicas.list()
            assert [replica.id for replica in listed] == [
                world.runtime.swap.membership.process.replica
            ]
            assert listed[0].observed == world.runtime.table.revision


async def test_a_call_that_is_stuck_delays_no_other_owner(keeping: World) -> None:
    await keeping.settle(rounds=2)
    swap, released = keeping.runtime.swap, threading.Event()
    swap.rollouts._rollouts = Away(lambda: released.wait(30))
    swap.rollouts._calls._seconds = 0.2
    swap.rollouts.kick()
    try:
        assert await swap.rollouts.repeat.attempt() is False
        before = keeping.prometheus.get_sample_value(
            "wardrobe_swap_errors_total", {"owner": "rollouts"}
        )
        assert before == 1
        version = keeping.publish("support")
        for owner in (swap.heartbeat, swap.routes, swap.loader, swap.acknowledgements):
            await owner.repeat.attempt()
        assert keeping.runtime.table.knows(version.name)
        assert keeping.runtime.registry.replicas.list()[0].seconds_silent < 2.0
    finally:
        released.set()


def test_a_replica_that_is_frozen_within_a_step_makes_no_other_look_silent(
    postgres: PostgresServer,
) -> None:
    assert PATIENCE_SECONDS + HEARTBEAT_SECONDS < REPORTING_SECONDS
    url = postgres.new_database()
    with closing(open_registry(url)) as registry:
        process = ProcessId(replica="a", incarnation="1")
        registry.replicas.register(
            Registration(process=process, base_fingerprint=Digest("b" * 64), limits={})
        )
        frozen = Database(url, patience_s=0.5)

        def freeze() -> None:
            with frozen.write() as connection:
                lock_processes(connection)
                registry.replicas.heartbeat(process, ready=True, lease_seconds=15.0)

        with pytest.raises(Unavailable):
            freeze()
        frozen.close()
        assert registry.replicas.list()[0].ready
