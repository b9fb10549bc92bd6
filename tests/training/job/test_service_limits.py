"""What the service can serve, asked before training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.domain.names import Digest
from adapters.domain.recipes import Recipe
from adapters.errors import Conflict, InvalidRequest, Unavailable
from adapters.registry.ports import Replica
from adapters.registry.ports.replicas import REPORTING_SECONDS
from tests.training.job.toy_replica import FINGERPRINT
from tests.training.world import World
from training.job.service_limits import (
    ServiceLimits,
    check_signed,
    common_limits,
    fit,
    reporting,
    wait_for_limits,
)


def replica(
    name: str = "a",
    *,
    base: Digest = FINGERPRINT,
    rank: int = 64,
    ready: bool = True,
    seconds_silent: float = 0.5,
    **limits: Any,
) -> Replica:
    return Replica(
        id=name,
        base_fingerprint=base,
        limits={"max_lora_rank": rank, "max_model_len": 1024 * rank, **limits},
        on_loss="keep",
        ready=ready,
        seconds_silent=seconds_silent,
        observed=1,
    )


@dataclass(frozen=True)
class Listed:
    """The port of replicas, as far as the trainer asks it."""

    found: Sequence[Replica]

    def list(self) -> Sequence[Replica]:
        return self.found


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


def test_silent_replicas_do_not_count() -> None:
    heard, silent = replica("a"), replica("b", seconds_silent=REPORTING_SECONDS + 0.1)
    assert reporting(Listed([heard, silent])) == [heard]  # type: ignore[arg-type]


def test_a_replica_that_cannot_load_one_units_version_counts_for_the_others(world: World) -> None:
    world.report_ready(ready=False)
    limits = wait_for_limits(
        world.registry.replicas, FINGERPRINT, clock=time.monotonic, pause=lambda: None, patience=0.0
    )
    assert limits.max_lora_rank == 64


def test_a_service_that_becomes_ready_is_waited_for(world: World) -> None:
    pauses: list[int] = []

    def pause() -> None:
        pauses.append(1)
        if len(pauses) == 3:
            world.report_ready(max_lora_rank=16)

    limits = wait_for_limits(
        world.registry.replicas, FINGERPRINT, clock=time.monotonic, pause=pause
    )
    assert (limits.max_lora_rank, len(pauses)) == (16, 3)


def test_patience_with_a_service_that_never_comes_is_bounded(world: World) -> None:
    with pytest.raises(Unavailable, match="start it"):
        wait_for_limits(
            world.registry.replicas,
            FINGERPRINT,
            clock=time.monotonic,
            pause=lambda: None,
            patience=0.05,
        )


def test_a_recipe_is_cut_to_the_context_and_refused_over_the_rank() -> None:
    limits = ServiceLimits(max_lora_rank=16, max_model_len=512)
    assert fit(Recipe(rank=16, max_length=2048), limits).max_length == 512
    assert fit(Recipe(rank=16, max_length=100), limits).max_length == 100
    with pytest.raises(InvalidRequest, match="WARDROBE_MAX_LORA_RANK"):
        fit(Recipe(rank=17), limits)


def test_what_is_trained_must_be_signed_by_a_key_that_every_replica_trusts() -> None:
    strict = [replica("a", trusted_keys=["k1", "k2"]), replica("b", trusted_keys=["k2", "k3"])]
    silent, loose = replica("c"), replica("d", trusted_keys=None)
    assert common_limits([silent, loose], FINGERPRINT).trusted_keys is None
    trusted = common_limits([*strict, silent, loose], FINGERPRINT).trusted_keys
    assert trusted == frozenset({"k2"})
    check_signed(trusted, "k2")
    check_signed(None, None)
    for key_id, code in ((None, "signing_key_missing"), ("k1", "signature_untrusted")):
        with pytest.raises(Conflict) as raised:
            check_signed(trusted, key_id)
        assert raised.value.reason == code
