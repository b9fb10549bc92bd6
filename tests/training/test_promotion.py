"""The automatic promotion at the end of a job."""

from __future__ import annotations

import time

import pytest

from adapters.domain.names import Alias, Digest, Unit
from adapters.domain.versions import Version
from adapters.registry import NewVersion
from tests.training.world import FINGERPRINT, World
from training.promotion import NotPromoted, promote

UNIT = Unit("support")


def publish(world: World, mark: str) -> Version:
    new = NewVersion(
        adapter="support",
        unit=UNIT,
        digest=Digest(mark * 64),
        base_fingerprint=FINGERPRINT,
        rank=4,
        size_bytes=1,
        evidence={},
    )
    return world.registry.publish_version(new, job_id=None, fence=None, at=time.time())


def complete_all(world: World) -> None:
    for rollout in world.registry.snapshot().rollouts:
        world.registry.complete_rollout(rollout.id, at=time.time())


def put_live(world: World, version: Version) -> None:
    promote(
        world.registry,
        version,
        actor="ftjob-1",
        clock=time.time,
        pause=lambda: complete_all(world),
    )


def begin(world: World, version: Version, *, action: str = "promote") -> None:
    world.registry.begin_rollout(
        Alias("support"),
        version.id,
        unit=UNIT,
        action=action,
        actor="someone",
        expected_generation=None,
        at=time.time(),
    )


def stable(world: World) -> int | None:
    return world.registry.route(Alias("support"), unit=UNIT).stable


def test_promoting_waits_until_the_route_serves_the_version(world: World) -> None:
    version = publish(world, "1")
    put_live(world, version)
    assert stable(world) == version.id


def test_promoting_what_is_live_already_changes_nothing(world: World) -> None:
    version = publish(world, "1")
    put_live(world, version)
    put_live(world, version)
    assert world.registry.route(Alias("support"), unit=UNIT).generation == 1


def test_asking_again_joins_the_rollout_that_is_under_way(world: World) -> None:
    version = publish(world, "1")
    begin(world, version)
    put_live(world, version)
    assert stable(world) == version.id


def test_a_rollout_of_another_version_is_not_disturbed(world: World) -> None:
    first, second = publish(world, "1"), publish(world, "2")
    begin(world, first)
    with pytest.raises(NotPromoted, match="under way"):
        put_live(world, second)
    assert [rollout.target for rollout in world.registry.snapshot().rollouts] == [first.id]


def test_an_older_version_never_replaces_a_newer_one(world: World) -> None:
    first, second = publish(world, "1"), publish(world, "2")
    put_live(world, second)
    with pytest.raises(NotPromoted, match="the newer support:2 is live"):
        put_live(world, first)
    assert stable(world) == second.id


def test_what_an_operator_rolled_back_is_not_put_live_again(world: World) -> None:
    first, second = publish(world, "1"), publish(world, "2")
    put_live(world, first)
    put_live(world, second)
    for _ in range(60):  # the job's own rollout lies pages back
        for version in (first, second):
            begin(world, version, action="rollback")
            complete_all(world)
    begin(world, first, action="rollback")
    complete_all(world)
    with pytest.raises(NotPromoted, match="moved on since"):
        put_live(world, second)
    assert stable(world) == first.id


def test_what_someone_else_put_live_before_is_still_promoted(world: World) -> None:
    first, second = publish(world, "1"), publish(world, "2")
    for version in (second, first):
        begin(world, version)
        complete_all(world)
    put_live(world, second)
    assert stable(world) == second.id


def test_a_rollout_that_never_ends_is_not_waited_for_for_ever(world: World) -> None:
    clock = iter(range(0, 10_000, 100))
    with pytest.raises(NotPromoted, match="still under way after 1800 s"):
        promote(
            world.registry,
            publish(world, "1"),
            actor="ftjob-1",
            clock=lambda: float(next(clock)),
            pause=lambda: None,
        )
