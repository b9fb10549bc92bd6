"""What every registry keeps of replicas: who answers, what it holds, what it has observed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adapters.domain.names import VersionId
from adapters.errors import Conflict, NotFound
from adapters.registry import Registry
from adapters.registry.ports import Registration, Replica
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    ADMIN,
    BASE,
    OWNER,
    a_key,
    a_process,
    acknowledge,
    beat,
    joined,
    load,
    observe,
    published,
)


def only(registry: Registry) -> Replica:
    (replica,) = registry.replicas.list()
    return replica


def test_a_replica_is_listed_as_it_registered(registry: Registry) -> None:
    joined(registry, observed=False)
    assert only(registry) == Replica(
        id="replica-1",
        base_fingerprint=BASE,
        limits={"max_lora_rank": 32},
        on_loss="keep",
        ready=True,
        seconds_silent=0.0,
        observed=None,
    )


def test_replicas_are_listed_by_id_silent_ones_too(registry: Registry, clock: Clock) -> None:
    joined(registry, a_process("b"))
    clock.pass_by(11.0)
    joined(registry, a_process("a"))
    found = registry.replicas.list()
    assert [(r.id, r.seconds_silent, r.reporting) for r in found] == [
        ("a", 0.0, True),
        ("b", 11.0, False),
    ]


def test_a_replica_is_as_ready_as_new_and_as_heard_as_its_last_process(
    registry: Registry, clock: Clock
) -> None:
    one, two = joined(registry), joined(registry, a_process(number=1))
    registry.keys.add([a_key()])
    observe(registry, one)
    clock.pass_by(3.0)
    registry.replicas.heartbeat(two, ready=False, lease_seconds=15.0)
    replica = only(registry)
    assert (replica.ready, replica.seconds_silent, replica.observed) == (False, 3.0, 0)


def test_registering_twice_is_registering_once(registry: Registry) -> None:
    registry.keys.add([a_key()])
    process = joined(registry)
    load(registry, process, published(registry))
    before = only(registry)
    joined(registry, process, observed=False)
    assert only(registry) == before


def test_a_new_incarnation_takes_the_place_of_the_old_one(registry: Registry) -> None:
    old = joined(registry)
    joined(registry, a_process(number=1))
    version = published(registry)
    load(registry, old, version)
    new = joined(registry, a_process(incarnation="two"), observed=False)
    replica = only(registry)
    assert (replica.observed, replica.loaded) == (None, frozenset())
    observe(registry, new)
    assert only(registry).observed == registry.routes.revision()
    asks: list[Callable[[], object]] = [
        lambda: beat(registry, old),
        lambda: observe(registry, old),
        lambda: load(registry, old, version),
        lambda: registry.replicas.unloaded(old.replica, old.incarnation, [version.id]),
    ]
    for ask in asks:
        with pytest.raises(NotFound) as raised:
            ask()
        assert raised.value.reason == "replica_unknown"
    registry.replicas.leave(old)
    assert only(registry).observed is not None


def test_an_observation_answers_with_the_newest_revision_and_never_goes_back(
    registry: Registry,
) -> None:
    process = joined(registry)
    registry.keys.add([a_key("key_1")])
    registry.keys.add([a_key("key_2")])
    assert registry.replicas.observe(process, 1) == 2
    assert only(registry).observed == 1
    assert registry.replicas.observe(process, 2) == 2
    assert registry.replicas.observe(process, 1) == 2
    assert only(registry).observed == 2


def test_what_an_engine_holds_is_acknowledged_row_by_row(registry: Registry) -> None:
    process = joined(registry)
    first, second, third = (published(registry) for _ in range(3))
    load(registry, process, first, second)
    acknowledge(registry, process, third, error="torn")
    replica = only(registry)
    assert replica.loaded == {first.id, second.id}
    assert replica.failed == {third.id: "torn"}
    load(registry, process, third)
    acknowledge(registry, process, first, error="evicted")
    registry.replicas.unloaded(process.replica, process.incarnation, [second.id, VersionId(99)])
    replica = only(registry)
    assert replica.loaded == {third.id}
    assert replica.failed == {first.id: "evicted"}


def test_a_replica_goes_with_its_last_process(registry: Registry) -> None:
    one, two = joined(registry), joined(registry, a_process(number=1))
    load(registry, one, published(registry))
    registry.replicas.leave(one)
    assert only(registry).loaded
    registry.replicas.leave(two)
    assert registry.replicas.list() == []
    registry.replicas.leave(two)
    with pytest.raises(NotFound):
        beat(registry, two)


def test_a_replica_that_was_heard_lately_is_not_retired(registry: Registry, clock: Clock) -> None:
    process = joined(registry)
    clock.pass_by(10.0)
    with pytest.raises(Conflict) as raised:
        registry.replicas.retire(process.replica, by=ADMIN)
    assert raised.value.reason == "replica_reporting"
    clock.pass_by(0.5)
    registry.replicas.retire(process.replica, by=ADMIN)
    assert registry.replicas.list() == []
    with pytest.raises(NotFound):
        beat(registry, process)
    with pytest.raises(NotFound):
        registry.replicas.retire(process.replica, by=ADMIN)
    joined(registry, process)
    assert only(registry).observed == 0


def test_replicas_are_no_business_of_a_unit(registry: Registry, clock: Clock) -> None:
    process = joined(registry)
    clock.pass_by(11.0)
    with pytest.raises(NotFound):
        registry.replicas.retire(process.replica, by=OWNER)
    assert only(registry).id == process.replica


def test_a_replica_that_stops_does_not_go_on_by_a_late_heartbeat(
    registry: Registry, clock: Clock
) -> None:
    """Complete may have been said without it: it registers and observes again first."""
    process = joined(registry, on_loss="stop")
    beat(registry, process, lease_seconds=5.0)
    clock.pass_by(4.0)
    beat(registry, process, lease_seconds=5.0)
    clock.pass_by(5.5)
    with pytest.raises(NotFound) as raised:
        beat(registry, process, lease_seconds=5.0)
    assert raised.value.reason == "replica_unknown"
    joined(registry, process, on_loss="stop")
    beat(registry, process, lease_seconds=5.0)


def test_a_replica_that_keeps_answering_needs_no_lease(registry: Registry, clock: Clock) -> None:
    process = joined(registry)
    beat(registry, process, lease_seconds=5.0)
    clock.pass_by(1e6)
    beat(registry, process, lease_seconds=5.0)


def test_limits_follow_the_newest_registration(registry: Registry) -> None:
    process = joined(registry)
    registry.replicas.register(
        Registration(process=process, base_fingerprint=BASE, limits={"max_lora_rank": 64})
    )
    assert only(registry).limits == {"max_lora_rank": 64}
