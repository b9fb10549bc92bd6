"""The automatic promotion at the end of a job."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from adapters.domain.canaries import CanaryPlan, Step
from adapters.domain.gates import GateResult, Outcome, at_least
from adapters.domain.names import Alias, Digest
from adapters.domain.principals import Principal, Role
from adapters.domain.routes import Rollout, Route
from adapters.domain.versions import Version
from adapters.registry.ports import NewVersion, RouteCommand
from tests.training.job.toy_replica import FINGERPRINT
from tests.training.world import OWNER, UNIT, World
from training.job.promote import NotPromoted, Promoter, Promotion

ALIAS = Alias("support")
JOB = Principal(id="ftjob-1", role=Role.UNIT, unit=UNIT)


@pytest.fixture(autouse=True)
def _replica(world: World) -> None:
    world.report_ready()
    world.replica.observe()


def publish(world: World, mark: str, *, base: Digest = FINGERPRINT) -> Version:
    new = NewVersion(
        adapter="support",
        unit=UNIT,
        digest=Digest(mark * 64),
        base_fingerprint=base,
        rank=4,
        size_bytes=1,
        evidence={},
    )
    return world.registry.versions.publish(new, job_id=None, fence=None)


def complete_all(world: World) -> None:
    world.replica.load()
    world.replica.observe()


def promoter(world: World, **changes: Any) -> Promoter:
    values: dict[str, Any] = {
        "versions": world.registry.versions,
        "routes": world.registry.routes,
        "rollouts": world.registry.rollouts,
        "canaries": world.registry.canaries,
        "clock": time.monotonic,
        "pause": lambda: complete_all(world),
    }
    return Promoter(**(values | changes))


def put_live(world: World, version: Version) -> Sequence[str]:
    return promoter(world).promote(version, JOB).waits_for


def route(world: World) -> Route:
    return world.registry.routes.route(ALIAS, UNIT)


def begin(world: World, version: Version) -> Rollout:
    """An operator's promotion, who has looked at the route before."""
    return world.registry.rollouts.promote(
        ALIAS, version.id, OWNER, unit=UNIT, expected_generation=route(world).generation
    )


def roll_back(world: World) -> Rollout:
    return world.registry.rollouts.roll_back(
        ALIAS, OWNER, unit=UNIT, expected_generation=route(world).generation
    )


def loading(world: World) -> list[int]:
    return [rollout.target for rollout in world.registry.routes.changes(-1).rollouts]


def ticking(step: float) -> Callable[[], float]:
    """A clock on which `step` seconds pass between any two looks."""
    ticks = iter(range(1_000_000))
    return lambda: next(ticks) * step


def test_promoting_waits_until_the_route_serves_the_version(world: World) -> None:
    version = publish(world, "1")
    assert list(put_live(world, version)) == []
    assert route(world).stable == version.id


def test_promoting_what_is_live_already_changes_nothing(world: World) -> None:
    version = publish(world, "1")
    put_live(world, version)
    put_live(world, version)
    assert route(world).generation == 1


def test_asking_again_joins_the_rollout_that_is_under_way(world: World) -> None:
    version = publish(world, "1")
    begin(world, version)
    put_live(world, version)
    assert route(world).stable == version.id


def test_a_rollout_of_another_version_is_not_disturbed(world: World) -> None:
    first, second = publish(world, "1"), publish(world, "2")
    begin(world, first)
    with pytest.raises(NotPromoted, match="under way"):
        put_live(world, second)
    assert loading(world) == [first.id]


def test_an_older_version_never_replaces_a_newer_one(world: World) -> None:
    first, second = publish(world, "1"), publish(world, "2")
    put_live(world, second)
    with pytest.raises(NotPromoted, match="the newer support:2 is live"):
        put_live(world, first)
    assert route(world).stable == second.id


def test_what_an_operator_rolled_back_is_not_put_live_again(world: World) -> None:
    first, second = publish(world, "1"), publish(world, "2")
    put_live(world, first)
    put_live(world, second)
    roll_back(world)
    complete_all(world)
    with pytest.raises(NotPromoted, match="it was rolled back"):
        put_live(world, second)
    assert route(world).stable == first.id


def test_what_an_operator_has_replaced_is_not_put_live_again(world: World) -> None:
    first, second = publish(world, "1"), publish(world, "2")
    put_live(world, first)
    put_live(world, second)
    for _ in range(51):  # the job's own rollout lies pages back
        for version in (first, second):
            begin(world, version)
            complete_all(world)
    begin(world, first)
    complete_all(world)
    with pytest.raises(NotPromoted, match="moved on since"):
        put_live(world, second)
    assert route(world).stable == first.id


def test_what_someone_else_put_live_before_is_still_promoted(world: World) -> None:
    first, second = publish(world, "1"), publish(world, "2")
    for version in (second, first):
        begin(world, version)
        complete_all(world)
    put_live(world, second)
    assert route(world).stable == second.id


class Overtaken:
    """The port of routes, whose answer is out of date as soon as it is given."""

    def __init__(self, world: World, then: Callable[[], None]) -> None:
        self._routes, self._then = world.registry.routes, then

    def route(self, alias: Alias, unit: Any) -> Route:
        seen = self._routes.route(alias, unit)
        self._then()
        return seen


def test_a_route_that_moved_since_it_was_seen_is_left_alone(world: World) -> None:
    first, second = publish(world, "1"), publish(world, "2")

    def overtake() -> None:
        begin(world, second)
        complete_all(world)
        begin(world, first)
        complete_all(world)

    with pytest.raises(NotPromoted, match="generation 2"):
        promoter(world, routes=Overtaken(world, overtake)).promote(publish(world, "3"), JOB)
    assert route(world).stable == first.id


def test_a_version_that_no_replica_can_load_is_not_live(world: World) -> None:
    version = publish(world, "1")
    fails = promoter(world, pause=lambda: world.replica.load(error="its weights are damaged"))
    with pytest.raises(NotPromoted, match="damaged"):
        fails.promote(version, JOB)
    assert route(world).stable is None


def test_the_successor_of_a_damaged_version_goes_live(world: World) -> None:
    damaged, good = publish(world, "1"), publish(world, "2")
    put_live(world, damaged)
    world.report_ready(ready=False)  # the replica came back, and its copy is damaged now
    world.replica.observe()
    put_live(world, good)
    assert route(world).stable == good.id


def test_replicas_that_have_not_observed_the_flip_are_named(world: World) -> None:
    version = publish(world, "1")
    deaf = promoter(world, pause=world.replica.load, clock=ticking(1.0))
    assert list(deaf.promote(version, JOB).waits_for) == ["replica-1"]
    assert route(world).stable == version.id


def test_a_rollout_that_never_ends_is_not_waited_for_for_ever(world: World) -> None:
    stuck = promoter(world, pause=lambda: None, clock=ticking(1000.0))
    with pytest.raises(NotPromoted, match="still under way after 1800 s"):
        stuck.promote(publish(world, "1"), JOB)


def judge(world: World, version: Version, *gates: GateResult) -> None:
    verdicts = [at_least("effect", 1.0, 0.0, ""), *gates]
    world.registry.versions.judge_again(version.id, verdicts, evidence={})


def test_what_was_not_compared_with_the_live_version_does_not_replace_it(world: World) -> None:
    live, version = publish(world, "1"), publish(world, "2")
    put_live(world, live)
    for gates in ((), (at_least("task", 0.0, -0.1, "", against="support:7"),)):
        judge(world, version, *gates)
        with pytest.raises(NotPromoted, match="not compared with support:1, which is live now"):
            put_live(world, version)
    assert route(world).stable == live.id


@pytest.mark.parametrize("outcome", [Outcome.PASSED, Outcome.SKIPPED])
def test_what_stands_beside_the_live_version_replaces_it(world: World, outcome: Outcome) -> None:
    live, version = publish(world, "1"), publish(world, "2")
    put_live(world, live)
    beside = replace(at_least("task", 0.0, -0.1, "", against="support:1"), outcome=outcome)
    judge(world, version, beside)
    put_live(world, version)
    assert route(world).stable == version.id


PLAN = CanaryPlan(steps=(Step(weight=5.0, minutes=10.0), Step(weight=50.0)))


def begin_canary(world: World, version: Version, **changes: Any) -> Promotion:
    return promoter(world, plan=PLAN, **changes).promote(version, JOB)


def test_by_a_schedule_a_version_becomes_a_canary_beside_the_live_one(world: World) -> None:
    live, version = publish(world, "1"), publish(world, "2")
    put_live(world, live)
    assert begin_canary(world, version) == Promotion(weight=5.0)
    now = route(world)
    assert now.stable == live.id
    assert now.canary is not None
    assert (now.canary.version, now.canary.weight) == (version.id, 5.0)
    run, _arms = world.registry.canaries.newest(ALIAS, UNIT)
    assert run.plan == PLAN


def test_a_first_version_has_nothing_to_stand_beside_and_goes_live_at_once(world: World) -> None:
    version = publish(world, "1")
    assert begin_canary(world, version) == Promotion()
    assert route(world).stable == version.id


def test_a_version_of_another_base_than_the_live_one_goes_live_at_once(world: World) -> None:
    put_live(world, publish(world, "1"))
    another = Digest("c" * 64)
    world.report_ready(base=another)
    world.replica.observe()
    version = publish(world, "2", base=another)
    assert begin_canary(world, version) == Promotion()
    assert route(world).stable == version.id


def test_asking_again_leaves_the_canary_as_it_is(world: World) -> None:
    live, version = publish(world, "1"), publish(world, "2")
    put_live(world, live)
    begin_canary(world, version)
    before = route(world)
    assert begin_canary(world, version) == Promotion(weight=5.0)
    assert route(world) == before


def test_a_canary_that_an_operator_took_out_does_not_come_again(world: World) -> None:
    live, version = publish(world, "1"), publish(world, "2")
    put_live(world, live)
    begin_canary(world, version)
    world.registry.rollouts.abort(
        RouteCommand(
            alias=ALIAS, unit=UNIT, principal=OWNER, expected_generation=route(world).generation
        )
    )
    with pytest.raises(NotPromoted, match="moved on since"):
        begin_canary(world, version)
    assert route(world).canary is None


def test_another_canary_is_not_disturbed(world: World) -> None:
    put_live(world, publish(world, "1"))
    first, second = publish(world, "2"), publish(world, "3")
    begin_canary(world, first)
    for plan in (PLAN, None):
        with pytest.raises(NotPromoted, match="a canary of support is running"):
            promoter(world, plan=plan).promote(second, JOB)
    canary = route(world).canary
    assert canary is not None
    assert canary.version == first.id


def test_a_canary_that_no_replica_can_load_answers_nobody(world: World) -> None:
    live, version = publish(world, "1"), publish(world, "2")
    put_live(world, live)
    with pytest.raises(NotPromoted, match="damaged"):
        begin_canary(
            world, version, pause=lambda: world.replica.load(error="its weights are damaged")
        )
    assert route(world).canary is None
