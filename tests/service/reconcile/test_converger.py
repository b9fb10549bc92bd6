"""The swap loop, one tick at a time, around an engine and a registry that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from adapters.domain.names import Digest
from adapters.domain.routes import RolloutState, Route
from adapters.errors import Conflict, EngineUnavailable, StorageFull
from adapters.registry import ReplicaReport
from adapters.registry.memory import MemoryRegistry
from service.reconcile.converger import SLOT_SECONDS
from tests.service.world import World, offline
from tests.simulation.engine import SimulatedEngine

ANOTHER_BASE = Digest("c" * 64)
CLIENTS_WORDS = Exception("Call to add_lora method failed: ...")
"""A bare `Exception` is what vLLM's client raises for whatever fails in the engine's core."""


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FullRegistry(MemoryRegistry):
    """Has room for no report, and none for the flip of `stuck`."""

    stuck = 0

    def report_replica(self, report: ReplicaReport) -> None:
        if not self.stuck:
            raise StorageFull("there is no room left")
        super().report_replica(report)

    def complete_rollout(self, rollout_id: int, *, at: float) -> Route:
        if rollout_id == self.stuck:
            raise StorageFull("there is no room left")
        return super().complete_rollout(rollout_id, at=at)


@pytest.fixture
def still(tmp_path: Path) -> Iterator[World]:
    """A service whose loop turns when told."""
    with offline(tmp_path / "state", registry=MemoryRegistry()) as world:
        yield world


def loop_errors(world: World) -> float | None:
    return world.prometheus.get_sample_value("wardrobe_swap_loop_errors_total")


async def test_a_version_the_engine_breaks_over_keeps_no_other_out(still: World) -> None:
    for unit in ("hr", "sales", "support"):
        still.make_live(still.publish(unit))
    still.engine.broken["hr:1"] = CLIENTS_WORDS
    converger = still.runtime.converger
    await converger.tick()
    await converger.tick()
    assert still.engine.loads == ["sales:1", "support:1"]
    assert still.engine.asked.count("hr:1") == 1, "tried again without a pause"
    assert [version.name for version in converger.missing] == ["hr:1"]
    assert converger.failure_of(converger.missing[0].id) == "hr:1 cannot be loaded"
    failed = {"outcome": "failed"}
    assert still.prometheus.get_sample_value("wardrobe_version_loads_total", failed) == 1


async def test_a_failed_unload_stops_no_load(tmp_path: Path) -> None:
    engine = SimulatedEngine(capacity=2)
    with offline(tmp_path / "state", engine, registry=MemoryRegistry()) as world:
        converger = world.runtime.converger
        for version in (world.publish("hr"), world.publish("sales")):
            await converger.refresh()
            await asyncio.gather(converger.ensure(version), converger.attempt())
        engine.broken["hr:1"] = CLIENTS_WORDS
        world.make_live(world.publish("support"))
        await converger.tick()
        assert "support:1" in engine.names.values()
        assert loop_errors(world) == 1


async def test_a_rollout_that_cannot_be_ended_holds_up_no_other(tmp_path: Path) -> None:
    registry = FullRegistry()
    with offline(tmp_path / "state", registry=registry) as world:
        rollouts = [world.begin(world.publish(unit)) for unit in ("hr", "sales")]
        registry.stuck = rollouts[0].id
        await world.runtime.converger.tick()
        states = [registry.rollout(rollout.id).state for rollout in rollouts]
        assert states == [RolloutState.LOADING, RolloutState.COMPLETE]
        assert loop_errors(world) == 1


async def test_an_attempt_outlives_a_registry_that_takes_no_report(tmp_path: Path) -> None:
    with offline(tmp_path / "state", registry=FullRegistry()) as world:
        world.make_live(world.publish("support"))
        with capture_logs() as logs:
            assert await world.runtime.converger.attempt() is False
        assert [line["event"] for line in logs] == ["loaded", "tick_failed"]
        assert world.engine.loads == ["support:1"]
        assert loop_errors(world) == 1


async def test_a_live_version_of_another_base_is_stranded_and_keeps_readiness_green(
    still: World,
) -> None:
    old = still.make_live(still.publish("support", base=ANOTHER_BASE))
    converger = still.runtime.converger
    with capture_logs() as logs:
        for _ in range(3):
            await converger.tick()
            still.publish("sales")
    assert [line["event"] for line in logs].count("version_stranded") == 1
    assert [version.name for version in converger.stranded] == ["support:1"]
    assert converger.missing == ()
    assert still.runtime.ready
    assert still.engine.asked == []
    assert "another base model" in (converger.failure_of(old.id) or "")
    with pytest.raises(Conflict, match="train it anew") as refused:
        await converger.ensure(old)
    assert refused.value.reason == "base_mismatch"


async def test_the_successor_of_a_stranded_version_takes_its_route(still: World) -> None:
    still.make_live(still.publish("support", base=ANOTHER_BASE))
    rollout = still.begin(still.publish("support"))
    await still.runtime.converger.tick()
    assert still.runtime.registry.rollout(rollout.id).state is RolloutState.COMPLETE
    assert still.runtime.converger.stranded == ()


async def test_a_request_for_what_cannot_be_loaded_is_told_to_wait_and_not_why(
    still: World,
) -> None:
    version = still.make_live(still.publish("support"))
    still.engine.refused.add("support:1")
    await still.runtime.converger.tick()
    with pytest.raises(EngineUnavailable) as refused:
        await still.runtime.converger.ensure(version)
    assert refused.value.message == "support:1 cannot be loaded now"
    reason = still.runtime.converger.failure_of(version.id)
    assert reason == "the engine cannot load support:1"


async def test_a_rollout_for_which_no_slot_becomes_free_fails_and_says_what_to_raise(
    tmp_path: Path,
) -> None:
    clock = Clock()
    engine = SimulatedEngine(capacity=2)
    options = {"registry": MemoryRegistry(), "clock": clock}
    with offline(tmp_path / "state", engine, **options) as world, capture_logs() as logs:
        for unit in ("hr", "sales"):
            world.make_live(world.publish(unit))
        rollout = world.begin(world.publish("support"))
        converger, registry = world.runtime.converger, world.runtime.registry
        for seconds in (0.0, SLOT_SECONDS - 1.0):
            clock.now += seconds
            await converger.tick()
            assert registry.rollout(rollout.id).state is RolloutState.LOADING
        clock.now += 1.0
        assert await converger.tick()
        failed = registry.rollout(rollout.id)
        assert failed.state is RolloutState.FAILED
        assert "WARDROBE_MAX_CPU_LORAS" in str(failed.error)
        assert [line["event"] for line in logs].count("rollout_waits_for_a_slot") == 1
        assert sorted(engine.names.values()) == ["hr:1", "sales:1"]


async def test_a_dead_engine_is_asked_for_nothing_more_and_is_not_ready(still: World) -> None:
    still.make_live(still.publish("support"))
    await still.runtime.converger.tick()
    assert still.prometheus.get_sample_value("wardrobe_ready") == 1
    still.make_live(still.publish("sales"))
    still.engine.alive = False
    await still.runtime.converger.tick()
    assert not still.runtime.ready
    assert still.engine.asked == ["support:1"]
    assert still.prometheus.get_sample_value("wardrobe_ready") == 0


async def test_gauges_of_what_is_gone_are_gone(still: World) -> None:
    version = still.make_live(still.publish("support"))
    metrics = still.runtime.metrics
    await still.runtime.converger.tick()
    shown = [("wardrobe_route_generation", "alias", "support"),
             ("wardrobe_version_resident", "version", version.name)]  # fmt: skip
    for name, label, value in shown:
        assert still.prometheus.get_sample_value(name, {label: value}) == 1
    metrics.show_state(versions={}, resident=set(), generations={}, revision=9, ready=True)
    for name, label, value in shown:
        assert still.prometheus.get_sample_value(name, {label: value}) is None
