"""Routes, and who may answer to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.domain.gates import GateResult
from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.routes import Route, check_generation, check_promotable, rollback_target
from adapters.domain.versions import VersionState
from adapters.errors import Conflict, VersionConflict
from tests.adapters.domain.test_versions import a_version

ROUTE = Route(alias=Alias("support"), unit=Unit("support"))


def test_a_flip_moves_stable_to_previous_and_counts_on() -> None:
    first = ROUTE.flipped_to(VersionId(1), at=5.0)
    second = first.flipped_to(VersionId(2), at=6.0)
    assert (first.stable, first.previous, first.generation) == (1, None, 1)
    assert (second.stable, second.previous, second.generation) == (2, 1, 2)
    assert second.updated_at == 6.0


def test_a_rollback_returns_to_the_previous_version() -> None:
    route = ROUTE.flipped_to(VersionId(1), at=5.0).flipped_to(VersionId(2), at=6.0)
    assert rollback_target(route) == 1
    assert rollback_target(route.flipped_to(VersionId(1), at=7.0)) == 2


def test_before_the_second_promotion_there_is_nothing_to_roll_back_to() -> None:
    with pytest.raises(Conflict) as raised:
        rollback_target(ROUTE.flipped_to(VersionId(1), at=5.0))
    assert raised.value.reason == "nothing_to_roll_back"


def test_the_generation_is_checked_when_the_caller_names_one() -> None:
    check_generation(ROUTE, None)
    check_generation(ROUTE, 0)
    with pytest.raises(VersionConflict) as raised:
        check_generation(ROUTE, 1)
    assert raised.value.param == "expected_generation"


@pytest.mark.parametrize("state", [VersionState.CANDIDATE, VersionState.LIVE, VersionState.RETIRED])
def test_an_own_version_may_be_promoted(state: VersionState) -> None:
    check_promotable(ROUTE, a_version(state))


def test_a_rejected_version_may_not_and_the_gate_is_named() -> None:
    gates = tuple(
        GateResult(gate=gate, passed=gate == "effect", measured=0, threshold=1, detail="")
        for gate in ("effect", "held_out")
    )
    version = replace(a_version(VersionState.REJECTED), gates=gates)
    with pytest.raises(Conflict, match="rejected by held_out") as raised:
        check_promotable(ROUTE, version)
    assert raised.value.reason == "version_rejected"


def test_a_version_of_another_unit_may_not() -> None:
    with pytest.raises(Conflict) as raised:
        check_promotable(replace(ROUTE, unit=Unit("sales")), a_version())
    assert raised.value.reason == "foreign_version"
