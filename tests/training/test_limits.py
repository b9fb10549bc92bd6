"""What the service can serve, asked before training."""

from __future__ import annotations

import time

import pytest

from adapters.domain.names import Digest
from adapters.domain.recipes import Recipe
from adapters.errors import Conflict, InvalidRequest, Unavailable
from adapters.registry import ReplicaReport
from tests.training.world import FINGERPRINT, World
from training.limits import ServiceLimits, common_limits, fit, ready_replicas, wait_for_limits


def replica(name: str = "a", *, base: Digest = FINGERPRINT, rank: int = 64) -> ReplicaReport:
    return ReplicaReport(
        id=name,
        at=time.time(),
        revision=1,
        loaded=frozenset(),
        ready=True,
        base_fingerprint=base,
        limits={"max_lora_rank": rank, "max_model_len": 1024 * rank},
    )


def test_the_weakest_replica_with_our_base_decides() -> None:
    other = Digest("d" * 64)
    limits = common_limits(
        [replica("a", rank=64), replica("b", rank=32), replica("c", base=other, rank=8)],
        FINGERPRINT,
    )
    assert limits == ServiceLimits(max_lora_rank=32, max_model_len=32 * 1024)


def test_another_base_everywhere_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="another base model") as caught:
        common_limits([replica(base=Digest("d" * 64))], FINGERPRINT)
    assert caught.value.reason == "base_mismatch"


def test_old_reports_and_replicas_not_ready_do_not_count(world: World) -> None:
    world.report_ready(fresh_for=0.0)
    assert len(ready_replicas(world.registry, now=time.time())) == 1
    assert ready_replicas(world.registry, now=time.time() + 60) == []


def test_a_service_that_becomes_ready_is_waited_for(world: World) -> None:
    pauses: list[int] = []

    def pause() -> None:
        pauses.append(1)
        if len(pauses) == 3:
            world.report_ready(max_lora_rank=16)

    limits = wait_for_limits(world.registry, FINGERPRINT, clock=time.time, pause=pause)
    assert (limits.max_lora_rank, len(pauses)) == (16, 3)


def test_patience_with_a_service_that_never_comes_is_bounded(world: World) -> None:
    with pytest.raises(Unavailable, match="start it"):
        wait_for_limits(
            world.registry, FINGERPRINT, clock=time.time, pause=lambda: None, patience=0.05
        )


def test_a_recipe_is_cut_to_the_context_and_refused_over_the_rank() -> None:
    limits = ServiceLimits(max_lora_rank=16, max_model_len=512)
    assert fit(Recipe(rank=16, max_length=2048), limits).max_length == 512
    assert fit(Recipe(rank=16, max_length=100), limits).max_length == 100
    with pytest.raises(InvalidRequest, match="WARDROBE_MAX_LORA_RANK"):
        fit(Recipe(rank=17), limits)
