"""A load that lasts, and everything that does not wait for it."""

from __future__ import annotations

import concurrent.futures
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.domain.api_keys import make_key
from adapters.domain.principals import Role
from service.reconcile.heartbeat import HEARTBEAT_SECONDS
from tests.service.world import World, running, write_units

HELLO = [{"role": "user", "content": "hello"}]
PATIENCE = 60.0
"""Seconds for what takes a part of one: a machine may be slow."""
SLOW = 3.0
"""How many times longer things may take than a moment before, where that was long already."""


def promote(world: World, version: str) -> Any:
    alias = version.partition(":")[0]
    body = {"version": version, "timeout": PATIENCE}
    return world.http(alias).post(f"/v1/adapters/{alias}/promote", json=body).json()


def until(condition: Callable[[], bool]) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.01)
    return time.monotonic() - began


@dataclass(frozen=True)
class Delays:
    """Seconds that a flip takes, until a key is known, and between two heartbeats at the most."""

    flip: float
    refresh: float
    silence: float


def delays(world: World) -> Delays:
    flips, silences = [], []
    for swap in range(5):
        began = time.monotonic()
        done = promote(world, f"support:{1 + swap % 2}")
        flips.append(time.monotonic() - began)
        assert done["state"] == "complete"
    _, key = make_key(Role.ADMIN, None, pepper=world.runtime.pepper)
    world.runtime.registry.keys.add([key])
    refresh = until(lambda: world.runtime.table.principal(key.hash) is not None)
    for _ in range(30):
        silences.append(world.runtime.registry.replicas.list()[0].seconds_silent)
        time.sleep(0.1)
    return Delays(statistics.median(flips), refresh, max(silences))


def test_a_load_delays_no_flip_no_refresh_and_no_heartbeat(world: World) -> None:
    """It lasts until all of them have been seen. A machine that is slow is so without it too."""
    for _ in range(2):
        world.publish("support")
    for version in ("support:1", "support:2"):
        assert promote(world, version)["state"] == "complete"
    world.publish("sales")
    without = delays(world)
    world.engine.held.add("sales:1")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loading = pool.submit(promote, world, "sales:1")
        try:
            until(lambda: "sales:1" in world.engine.asked)
            beside = delays(world)
            assert not loading.done()
        finally:
            world.engine.held.discard("sales:1")
        assert loading.result()["state"] == "complete"

    assert beside.flip <= max(0.5, SLOW * without.flip), (beside, without)
    assert beside.refresh <= max(0.5, SLOW * without.refresh), (beside, without)
    assert beside.silence <= max(HEARTBEAT_SECONDS + 1.0, SLOW * without.silence)


def test_requests_that_wait_for_a_load_count_against_their_units_limit(tmp_path: Path) -> None:
    write_units(tmp_path / "units", {"support": "limits: {max_concurrent_requests: 2}\n"})
    with running(tmp_path / "state") as world:
        version = world.publish("support")
        until(lambda: world.runtime.table.knows(version.name))
        world.engine.load_seconds = 3.0

        def ask() -> int:
            said = {"model": version.name, "messages": HELLO}
            return int(world.http("support").post("/v1/chat/completions", json=said).status_code)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(ask) for _ in range(2)]
            until(lambda: world.runtime.meters.of("unit:support").requests == 2)
            assert world.runtime.leases.total == 0, "nothing is answered yet"
            assert ask() == 429
            assert [one.result() for one in waiting] == [200, 200]
        assert world.engine.loads == [version.name]
