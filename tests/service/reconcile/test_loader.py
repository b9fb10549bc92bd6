"""The loader, one step at a time, around an engine and a registry that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from adapters.domain.names import Alias, Digest, VersionId
from adapters.domain.principals import SYSTEM
from adapters.domain.routes import RolloutState
from adapters.domain.versions import ServedVersion, Version
from adapters.errors import Conflict, RateLimited, StorageFull, Unavailable
from adapters.signatures import Signer
from adapters.signing_keys import statement_of
from adapters.store.port import ArtifactKind
from service.engine.shared_residency import Reason
from service.reconcile.desired import SLOT_SECONDS
from service.reconcile.load_failures import RETRY_SECONDS
from service.reconcile.load_requests import COLD_LOADS
from tests.clock import Clock
from tests.service.world import World, offline
from tests.simulation.engine import SimulatedEngine

ANOTHER_BASE = Digest("c" * 64)
CLIENTS_WORDS = Exception("Call to add_lora method failed: ...")
"""A bare `Exception` is what vLLM's client raises for whatever fails in the engine's core."""


@pytest.fixture
def still(tmp_path: Path, clock: Clock) -> Iterator[World]:
    """A service whose owners take a step when told, by `clock`."""
    with offline(tmp_path / "state", clock=clock) as world:
        yield world


def errors(world: World, owner: str) -> float:
    labels = {"owner": owner}
    return world.prometheus.get_sample_value("wardrobe_swap_errors_total", labels) or 0.0


def missing(world: World) -> list[str]:
    return [version.name for version in world.runtime.swap.loader.missing()]


def unavailable(world: World) -> dict[str, Reason]:
    return {alias: why for alias, (_, why) in world.runtime.swap.loader.unavailable().items()}


def served(world: World, version: Version) -> ServedVersion:
    found = world.runtime.table.version(version.id)
    assert found is not None
    return found


async def asked_for(world: World, *versions: Version) -> None:
    """What requests for these by name do until they have their lease."""
    loader = world.runtime.swap.loader
    for version in versions:
        waiting = asyncio.create_task(loader.ensure(served(world, version)))
        while not waiting.done():
            await loader.repeat.attempt()
            await asyncio.sleep(0)
        await waiting


async def test_a_version_the_engine_breaks_over_keeps_no_other_out(still: World) -> None:
    for unit in ("hr", "sales", "support"):
        still.make_live(still.publish(unit))
    still.engine.broken["hr:1"] = CLIENTS_WORDS
    await still.settle()
    assert sorted(still.engine.loads) == ["sales:1", "support:1"]
    assert still.engine.asked.count("hr:1") == 1, "tried again without a pause"
    assert unavailable(still) == {"hr": Reason.LOAD_FAILED}
    assert missing(still) == []
    assert still.runtime.ready
    failed = {"outcome": "failed"}
    assert still.prometheus.get_sample_value("wardrobe_version_loads_total", failed) == 1


async def test_a_failed_unload_stops_no_load(tmp_path: Path) -> None:
    engine = SimulatedEngine(capacity=2)
    with offline(tmp_path / "state", engine) as world:
        hr, sales = world.publish("hr"), world.publish("sales")
        await world.settle()
        await asked_for(world, hr, sales)
        engine.broken["hr:1"] = CLIENTS_WORDS
        world.begin(world.publish("support"))
        await world.settle()
        assert "support:1" in engine.names.values()
        assert errors(world, "loader") == 1


class Full:
    """A port that has room for nothing that it is told."""

    def __init__(self, port: Any, *refused: str) -> None:
        self._port = port
        self._refused = refused

    def __getattr__(self, name: str) -> Any:
        if name in self._refused:
            return self._refuse
        return getattr(self._port, name)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise StorageFull("there is no room left")


async def test_a_registry_that_takes_no_acknowledgement_stops_no_load_and_no_route(
    still: World,
) -> None:
    acknowledgements = still.runtime.swap.acknowledgements
    port = acknowledgements._replicas
    acknowledgements._replicas = Full(port, "acknowledge")
    still.make_live(still.publish("support"))
    with capture_logs() as logs:
        await still.settle(rounds=3)
    assert "step_failed" in {line["event"] for line in logs}
    assert still.engine.loads == ["support:1"]
    assert still.runtime.ready
    assert errors(still, "acknowledgements") >= 1
    assert still.runtime.registry.replicas.list()[0].loaded == frozenset()
    acknowledgements._replicas = port
    await still.settle(rounds=2)
    assert len(still.runtime.registry.replicas.list()[0].loaded) == 1


async def test_a_live_version_of_another_base_is_stranded_and_keeps_readiness_green(
    still: World,
) -> None:
    old = still.make_live(still.publish("support", base=ANOTHER_BASE))
    await still.settle()
    assert unavailable(still) == {"support": Reason.BASE_MISMATCH}
    assert missing(still) == []
    assert still.runtime.ready
    assert still.engine.asked == []
    with pytest.raises(Conflict, match="train it anew") as refused:
        await still.runtime.swap.loader.ensure(served(still, old))
    assert refused.value.reason == "base_mismatch"


async def test_the_successor_of_a_stranded_version_takes_its_route(still: World) -> None:
    still.make_live(still.publish("support", base=ANOTHER_BASE))
    await still.settle()
    rollout = still.begin(still.publish("support"))
    await still.settle()
    assert still.runtime.registry.rollouts.get(rollout.id).state is RolloutState.COMPLETE
    assert unavailable(still) == {}


async def test_a_request_for_what_cannot_be_loaded_is_told_why_and_when_to_come_again(
    still: World,
) -> None:
    version = still.make_live(still.publish("support"))
    still.engine.refused.add("support:1")
    await still.settle()
    with pytest.raises(Unavailable) as refused:
        await still.runtime.swap.loader.ensure(served(still, version))
    assert refused.value.reason == "version_unavailable"
    assert refused.value.message == "support:1 cannot be served now: the engine cannot load it"


async def test_a_version_that_failed_is_tried_again_after_a_pause(
    still: World, clock: Clock
) -> None:
    still.make_live(still.publish("support"))
    still.engine.refused.add("support:1")
    await still.settle()
    still.engine.refused.clear()
    clock.now += RETRY_SECONDS - 1.0
    await still.settle()
    assert still.engine.loads == [], "tried again before the pause was over"
    clock.now += 1.0
    await still.settle()
    assert still.engine.loads == ["support:1"]
    assert unavailable(still) == {}


async def test_a_version_that_is_promoted_again_is_tried_at_once_however_it_failed_before(
    still: World,
) -> None:
    version = still.publish("support")
    still.engine.refused.add("support:1")
    failed = still.begin(version)
    await still.settle()
    ended = still.runtime.registry.rollouts.get(failed.id)
    assert ended.state is RolloutState.FAILED
    assert "the engine cannot load it" in str(ended.error)
    still.engine.refused.clear()
    again = still.begin(version)
    await still.settle()
    assert still.runtime.registry.rollouts.get(again.id).state is RolloutState.COMPLETE


async def test_a_rollout_for_which_no_slot_becomes_free_fails_and_says_what_to_raise(
    tmp_path: Path, clock: Clock
) -> None:
    engine = SimulatedEngine(capacity=3)
    with offline(tmp_path / "state", engine, clock=clock) as world, capture_logs() as logs:
        for unit in ("hr", "sales"):
            world.make_live(world.publish(unit))
        asked = world.publish("sales")
        await world.settle()
        await asked_for(world, asked)
        lease = world.runtime.leases.take(asked.id)
        assert lease is not None, "an answer that never ends has the slot that was spare"
        rollout = world.begin(world.publish("support"))
        registry = world.runtime.registry
        for seconds in (0.0, SLOT_SECONDS - 1.0):
            clock.now += seconds
            await world.settle(rounds=3)
            assert registry.rollouts.get(rollout.id).state is RolloutState.LOADING
        clock.now += 1.0
        await world.settle(rounds=4)
        failed = registry.rollouts.get(rollout.id)
        assert failed.state is RolloutState.FAILED
        assert "WARDROBE_MAX_CPU_LORAS" in str(failed.error)
        assert [line["event"] for line in logs].count("version_waits_for_a_slot") == 1
        assert sorted(engine.names.values()) == ["hr:1", "sales:1", "sales:2"]


async def test_a_dead_engine_is_asked_for_nothing_more_and_is_not_ready(still: World) -> None:
    still.make_live(still.publish("support"))
    await still.settle()
    assert still.prometheus.get_sample_value("wardrobe_ready") == 1
    still.begin(still.publish("sales"))
    still.engine.alive = False
    await still.settle()
    assert not still.runtime.ready
    assert still.engine.asked == ["support:1"]
    assert still.prometheus.get_sample_value("wardrobe_ready") == 0


async def test_a_candidate_that_is_asked_all_the_time_outlives_an_idle_one(tmp_path: Path) -> None:
    engine = SimulatedEngine(capacity=3)
    with offline(tmp_path / "state", engine) as world:
        busy, *others = (world.publish("support") for _ in range(6))
        await world.settle(rounds=2)
        await asked_for(world, busy)
        for other in others:
            await asked_for(world, other)
            lease = world.runtime.leases.take(busy.id)
            assert lease is not None, "the one asked for all the time was evicted"
            with lease:
                pass
        assert "support:1" in engine.names.values()


async def test_a_unit_that_cycles_its_versions_pushes_out_no_other_units(tmp_path: Path) -> None:
    engine = SimulatedEngine(capacity=3)
    with offline(tmp_path / "state", engine) as world:
        quiet = world.publish("sales")
        cycled = [world.publish("support") for _ in range(6)]
        await world.settle(rounds=2)
        await asked_for(world, quiet)
        await asked_for(world, *cycled, *cycled)
        assert engine.names[quiet.id] == "sales:1"
        assert engine.loads.count("sales:1") == 1


async def test_a_unit_may_wait_for_a_bounded_number_of_cold_versions_and_others_still_may(
    still: World,
) -> None:
    cold = [still.publish("support") for _ in range(COLD_LOADS + 1)]
    other = still.publish("sales")
    await still.settle(rounds=2)
    loader = still.runtime.swap.loader
    waiting = [asyncio.create_task(loader.ensure(served(still, v))) for v in cold[:COLD_LOADS]]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await loader.ensure(served(still, cold[-1]))
    await asked_for(still, other)
    while not all(task.done() for task in waiting):
        await loader.repeat.attempt()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)


async def test_a_unit_that_promotes_all_the_time_does_not_keep_others_requests_waiting(
    still: World, clock: Clock
) -> None:
    cold, promoted = still.publish("sales"), [still.publish("support") for _ in range(5)]
    await still.settle(rounds=2)
    swap = still.runtime.swap
    waiting = asyncio.create_task(swap.loader.ensure(served(still, cold)))
    await asyncio.sleep(0)
    for version in promoted:
        clock.now += 1.0
        still.begin(version)
        await swap.routes.repeat.attempt()
        await swap.loader.repeat.attempt()  # at most one load
        await swap.acknowledgements.repeat.attempt()
        await swap.rollouts.repeat.attempt()
        await asyncio.sleep(0)
        if waiting.done():
            break
    assert sorted(still.engine.loads[:2]) == ["sales:1", "support:1"]
    await waiting


async def test_the_processes_of_an_engine_share_what_a_unit_may_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROBE_INCARNATION", "one-life")
    state = tmp_path / "state"
    with offline(state) as one, offline(state, process=1) as two:
        *cold, last = (one.publish("support") for _ in range(COLD_LOADS + 1))
        other = one.publish("sales")
        for world in (one, two):
            await world.settle(rounds=2)
        asks = [(one, cold[0]), *((two, version) for version in cold), (one, other)]
        waiting = [
            asyncio.create_task(world.runtime.swap.loader.ensure(served(world, version)))
            for world, version in asks
        ]
        await asyncio.sleep(0)
        for world in (one, two):
            with pytest.raises(RateLimited):
                await world.runtime.swap.loader.ensure(served(world, last))
        assert last.id not in one.runtime.residency.asked()
        while not all(task.done() for task in waiting):
            for world in (one, two):
                await world.runtime.swap.loader.repeat.attempt()
        await asyncio.gather(*waiting)


async def test_what_a_route_needs_takes_no_place_among_what_requests_ask_for(still: World) -> None:
    version = still.make_live(still.publish("support"))
    await still.runtime.swap.routes.repeat.attempt()
    loader = still.runtime.swap.loader
    waiting = asyncio.create_task(loader.ensure(served(still, version)))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert still.runtime.residency.asked() == frozenset()
    await loader.repeat.attempt()
    await waiting
    assert still.engine.loads == ["support:1"]


async def test_a_wait_for_what_its_route_needs_no_more_ends_and_loads_nothing(
    still: World,
) -> None:
    first, second = still.publish("support"), still.publish("support")
    still.make_live(first)
    routes, loader = still.runtime.swap.routes, still.runtime.swap.loader
    await routes.repeat.attempt()
    waiting = asyncio.create_task(loader.ensure(served(still, first)))
    await asyncio.sleep(0)
    still.make_live(second)
    await routes.repeat.attempt()
    await loader.repeat.attempt()
    async with asyncio.timeout(5.0):
        await waiting
    assert still.engine.loads == ["support:2"]


async def test_units_that_wait_take_turns(still: World) -> None:
    greedy = [still.publish("support") for _ in range(3)]
    modest = still.publish("sales")
    await still.settle(rounds=2)
    loader = still.runtime.swap.loader
    waiting = [asyncio.create_task(loader.ensure(served(still, v))) for v in (*greedy, modest)]
    await asyncio.sleep(0)
    for _ in range(2):
        await loader.repeat.attempt()
    assert "sales:1" in still.engine.loads, "it waits behind everything of the greedy unit"
    while not all(task.done() for task in waiting):
        await loader.repeat.attempt()
        await asyncio.sleep(0)


async def test_another_process_names_what_the_loader_has_loaded_and_forgets_what_it_unloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROBE_INCARNATION", "one-life")
    first, second = SimulatedEngine(), SimulatedEngine()
    state = tmp_path / "state"
    with offline(state, first) as loader, offline(state, second, process=1) as other:
        version = loader.make_live(loader.publish("support"))
        candidate = loader.publish("support")
        for _ in range(3):
            await loader.settle(rounds=1)
            await other.settle(rounds=1)
        assert (loader.runtime.swap.loader.owner, other.runtime.swap.loader.owner) == (True, False)
        assert (first.loads, second.loads) == (["support:1"], [])
        assert second.names == {version.id: "support:1"}
        assert other.runtime.ready
        # what the other asks for, the loader loads
        waiting = asyncio.create_task(other.runtime.swap.loader.ensure(served(other, candidate)))
        while not waiting.done():
            await loader.runtime.swap.loader.repeat.attempt()
            await other.runtime.swap.loader.repeat.attempt()
            await asyncio.sleep(0)
        assert (first.loads, second.loads) == (["support:1", "support:2"], [])
        # what the other answers with, the loader does not unload
        lease = other.runtime.leases.take(candidate.id)
        assert lease is not None
        loader.runtime.registry.versions.retire(candidate.id, SYSTEM, aliases=[Alias("support")])
        with lease:
            await loader.settle(rounds=3)
            assert candidate.id in first.names
        await loader.settle(rounds=3)
        await other.settle(rounds=1)
        assert candidate.id not in first.names
        assert candidate.id not in second.names


async def test_what_was_unloaded_while_the_registry_had_lost_the_replica_is_taken_back(
    still: World,
) -> None:
    version = still.publish("support")
    await still.settle(rounds=2)
    await asked_for(still, version)
    await still.settle(rounds=1)
    registry, swap = still.runtime.registry, still.runtime.swap
    assert registry.replicas.list()[0].loaded == {version.id}
    swap.membership.note_unknown()
    registry.versions.retire(version.id, SYSTEM, aliases=[Alias("support")])
    for owner in (swap.routes, swap.loader, swap.acknowledgements):
        await owner.repeat.attempt()
    assert version.id not in still.engine.names
    await still.settle(rounds=2)
    assert registry.replicas.list()[0].loaded == frozenset()


async def test_a_rollout_begun_anew_before_the_loader_looked_ends_by_an_attempt_of_its_own(
    still: World, clock: Clock
) -> None:
    version = still.publish("support")
    still.engine.refused.add("support:1")
    await still.settle(rounds=2)
    registry = still.runtime.registry
    for _ in range(2):
        rollout = still.begin(version)
        asked = len(still.engine.asked)
        for _ in range(4):
            for owner in still.runtime.swap.owners:
                await owner.repeat.attempt()
                if not registry.rollouts.get(rollout.id).state.open:
                    break
            else:
                continue
            break
        assert registry.rollouts.get(rollout.id).state is RolloutState.FAILED
        assert len(still.engine.asked) > asked, "it failed by what was found before it"
        # the version stays wanted: the loader has not seen that the rollout has ended
        assert still.runtime.residency.failure(version.id) is not None
        clock.now += RETRY_SECONDS


def loads(world: World) -> bool:
    return world.runtime.swap.loader.owner


async def test_who_becomes_the_loader_keeps_the_files_of_what_is_resident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROBE_INCARNATION", "one-life")
    state = tmp_path / "state"
    with offline(state, SimulatedEngine(), process=1) as heir:
        with offline(state, SimulatedEngine()) as loader:
            version = loader.make_live(loader.publish("support"))
            await loader.settle(rounds=3)
            assert loader.runtime.swap.loader.owner
            await heir.settle(rounds=1)
            # what a death ends: its locks
            loader.runtime.residency.close()
            loader.runtime.store.release(version.digest)
        heir.engine.broken["support:9"] = CLIENTS_WORDS
        heir.runtime.residency.begin_load(VersionId(9))
        heir.engine.names[VersionId(9)] = "support:9"
        await heir.settle(rounds=1)
        assert not loads(heir), "what it could not take over would stay for ever"
        del heir.engine.broken["support:9"]
        await heir.settle(rounds=1)
        assert loads(heir)
        assert heir.runtime.residency.left_behind() == frozenset()
        assert not heir.runtime.store.delete(version.digest, ArtifactKind.ADAPTER)


# -- signatures


def signing(state: Path) -> Signer:
    """The key that the first start has made in the state folder."""
    state.mkdir(parents=True)
    signer = Signer.made()
    (state / "signing.pem").write_bytes(signer.to_pem())
    return signer


def sign(world: World, version: Version, signer: Signer) -> None:
    signatures = {version.id: signer.sign(statement_of(version))}
    world.runtime.registry.versions.sign(signatures, SYSTEM)


async def test_a_version_that_nobody_trusted_has_signed_is_not_loaded_and_says_why(
    tmp_path: Path,
) -> None:
    ours, theirs = signing(tmp_path / "state"), Signer.made()
    with offline(tmp_path / "state") as world:
        signed, unsigned, foreign = (
            world.make_live(world.publish(unit)) for unit in ("support", "sales", "hr")
        )
        sign(world, signed, ours)
        sign(world, foreign, theirs)
        await world.settle()
        assert sorted(world.engine.loads) == [signed.name]
        assert unsigned.name not in world.engine.asked, "the engine never sees it"
        assert unavailable(world) == {
            "sales": Reason.SIGNATURE_MISSING,
            "hr": Reason.SIGNATURE_UNTRUSTED,
        }
        assert world.runtime.ready, "it takes nobody else out"
        with pytest.raises(Unavailable, match="signed by a key that is not trusted") as raised:
            await world.runtime.swap.loader.ensure(served(world, foreign))
        assert raised.value.reason == "version_unavailable"


async def test_anothers_signed_bytes_do_not_pass_as_a_units_own(tmp_path: Path) -> None:
    """Somebody who can write the registry gives one unit's adapter the bytes of another's."""
    signer = signing(tmp_path / "state")
    with offline(tmp_path / "state") as world:
        theirs, ours = world.publish("sales"), world.make_live(world.publish("support"))
        stolen = signer.sign(statement_of(theirs))
        world.runtime.registry.versions.sign({ours.id: stolen}, SYSTEM)
        await world.settle()
        assert unavailable(world) == {"support": Reason.SIGNATURE_INVALID}
        assert world.engine.loads == []


async def test_a_version_that_is_adopted_is_loaded_at_the_next_try(
    tmp_path: Path, clock: Clock
) -> None:
    signer = signing(tmp_path / "state")
    with offline(tmp_path / "state", clock=clock) as world:
        version = world.make_live(world.publish("support"))
        await world.settle()
        assert unavailable(world) == {"support": Reason.SIGNATURE_MISSING}
        sign(world, version, signer)
        clock.now += RETRY_SECONDS
        await world.settle()
        assert unavailable(world) == {}
        assert list(world.engine.loads) == [version.name]


async def test_where_signatures_are_only_warned_of_the_log_names_the_version(
    tmp_path: Path,
) -> None:
    signing(tmp_path / "state")
    with offline(tmp_path / "state", signatures="warn") as world:
        version = world.make_live(world.publish("support"))
        with capture_logs() as logs:
            await world.settle()
        assert list(world.engine.loads) == [version.name]
        told = [line for line in logs if line["event"] == "signature_not_trusted"]
        assert [(line["version"], line["reason"]) for line in told] == [
            (version.name, "signature_missing")
        ]
