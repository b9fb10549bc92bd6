"""What is shown of a canary is what the registry has counted and concluded of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from adapters.domain.canaries import Arms, CanaryPlan, CanaryRun, Evidence, Outcomes, Signal, Step
from adapters.domain.names import Alias, Unit
from adapters.domain.principals import SYSTEM
from adapters.domain.sequential import ODDS, Worse
from adapters.registry.ports import Canaries, Counted, ProcessId, RouteCommand
from service.reconcile.canary_gauges import CanaryGauges
from tests.service.world import World, offline

EVIDENCE = "wardrobe_canary_evidence"
ELSEWHERE = ProcessId(replica="other", incarnation="1")
FAST = (100, *[0] * 46)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with offline(tmp_path / "state") as made:
        yield made


def command(generation: int) -> RouteCommand:
    return RouteCommand(
        alias=Alias("support"),
        unit=Unit("support"),
        principal=SYSTEM,
        expected_generation=generation,
    )


def shown(world: World) -> dict[str, float]:
    """By metric, version and arm or signal."""
    return {
        " ".join([sample.name, *list(sample.labels.values())[2:]]): sample.value
        for metric in world.prometheus.collect()
        if metric.name in ("wardrobe_canary_answers", "wardrobe_canary_errors", EVIDENCE)
        for sample in metric.samples
        if sample.labels["unit"] == sample.labels["alias"] == "support"
    }


async def test_both_arms_of_a_canary_are_shown_while_it_runs(world: World) -> None:
    stable = world.make_live(world.publish("support"))
    canary = world.publish("support")
    await world.settle()
    canaries = world.runtime.registry.canaries
    plan = CanaryPlan(steps=(Step(weight=50.0),), advances=False, rolls_back=False)
    begun = canaries.start(command(1), canary.id, plan)
    await world.settle()
    await world.runtime.swap.canary_gauges.step()
    assert shown(world) == {
        "wardrobe_canary_answers support:1 stable": 0.0,
        "wardrobe_canary_answers support:2 canary": 0.0,
        "wardrobe_canary_errors support:1 stable": 0.0,
        "wardrobe_canary_errors support:2 canary": 0.0,
    }
    for version, errors in ((stable, 1), (canary, 90)):
        counted = Outcomes(requests=100 + errors, errors=errors, latency=FAST)
        told = [Counted(rollout=begun.id, version=version.id, counts=counted)]
        canaries.report(ELSEWHERE, told)
        canaries.report(world.runtime.swap.membership.process, told)
    await world.runtime.swap.canary_gauges.step()
    found = shown(world)
    assert found["wardrobe_canary_answers support:2 canary"] == 380.0, "of both replicas"
    assert found["wardrobe_canary_errors support:2 canary"] == 180.0
    assert found["wardrobe_canary_errors support:1 stable"] == 2.0
    canaries.set_weight(command(2), 20.0)
    await world.settle()
    world.runtime.registry.rollouts.abort(command(3))
    await world.settle()
    await world.runtime.swap.canary_gauges.step()
    assert shown(world) == {}, "what ran is shown no longer"


class Judged:
    """A registry's canaries that have been looked at."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries

    def newest(self, alias: Alias, unit: Unit) -> tuple[CanaryRun, Arms]:
        run, arms = self._canaries.newest(alias, unit)
        worse = Worse(logs=(math.log(1000.0),) * len(ODDS))
        return replace(run, evidence=Evidence(worse={Signal.ERRORS: worse})), arms


async def test_the_evidence_that_it_is_worse_is_shown_as_a_power_of_ten(world: World) -> None:
    world.make_live(world.publish("support"))
    canary = world.publish("support")
    await world.settle()
    canaries = world.runtime.registry.canaries
    canaries.start(command(1), canary.id, CanaryPlan(steps=(Step(weight=50.0),), advances=False))
    await world.settle()
    gauges = CanaryGauges(
        canaries=cast("Canaries", Judged(canaries)),
        table=world.runtime.table,
        is_owner=lambda: True,
        metrics=world.runtime.metrics,
    )
    await gauges.step()
    gauges.close()
    assert shown(world)[f"{EVIDENCE} support:2 errors"] == pytest.approx(3.0)
