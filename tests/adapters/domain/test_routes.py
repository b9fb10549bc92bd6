"""Routes, and who may answer to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adapters.domain.gates import at_least
from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.routes import (
    Action,
    Rollout,
    RolloutState,
    Route,
    check_generation,
    check_promotable,
    rollback_target,
)
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, VersionConflict
from tests.adapters.domain.test_versions import a_version

ROUTE = Route(alias=Alias("support"), unit=Unit("support"))


def a_flip(number: int, target: int, *, unit: str = "support") -> Rollout:
    return Rollout(
        id=number,
        alias=ROUTE.alias,
        unit=Unit(unit),
        action=Action.PROMOTE,
        target=VersionId(target),
        replaced=None,
        generation=number,
        state=RolloutState.COMPLETE,
        actor="key_1",
        created_at=1.0,
    )


def served(*targets: int) -> tuple[Route, list[Rollout]]:
    """The route after flips to each of the targets, and the flips, newest first."""
    flips = [a_flip(number, target) for number, target in enumerate(targets, start=1)]
    route = ROUTE
    for flip in flips:
        route = route.flipped_by(flip, at=float(flip.id))
    return route, flips[::-1]


def versions(*bad: Version) -> dict[VersionId, Version]:
    """Three good versions, or other words for some of them."""
    good = {VersionId(n): replace(a_version(), id=VersionId(n)) for n in (1, 2, 3)}
    return good | {version.id: version for version in bad}


def test_a_flip_moves_the_route_and_counts_on() -> None:
    route, _ = served(1, 2)
    assert (route.stable, route.generation, route.updated_at, route.since) == (2, 2, 2.0, 1)


def test_a_route_that_moves_to_another_unit_starts_anew() -> None:
    route, _ = served(1, 2)
    assert route.for_unit(route.unit) is route
    empty = route.for_unit(Unit("sales"))
    assert (empty.stable, empty.generation, empty.since) == (None, 2, 0)
    moved = route.flipped_by(a_flip(9, 3, unit="sales"), at=3.0)
    assert (moved.unit, moved.stable, moved.generation, moved.since) == ("sales", 3, 3, 9)


def test_a_rollback_returns_to_the_newest_good_version_before() -> None:
    assert rollback_target(*served(1, 2), versions()) == 1
    assert rollback_target(*served(1, 2, 3), versions()) == 2
    assert rollback_target(*served(1, 2, 1), versions()) == 2


@pytest.mark.parametrize(
    "words",
    [
        {"rolled_back_at": 5.0},
        {"withdrawn_at": 5.0},
        {"collected_at": 5.0},
        {"state": VersionState.REJECTED},
    ],
    ids=lambda words: next(iter(words)),
)
def test_what_is_not_good_is_no_rollbacks_target(words: dict[str, Any]) -> None:
    bad = replace(versions()[VersionId(2)], **words)
    assert rollback_target(*served(1, 2, 3), versions(bad)) == 1


def test_a_rollback_does_not_reach_behind_the_routes_beginning() -> None:
    route, flips = served(1, 2)
    with pytest.raises(Conflict) as raised:
        rollback_target(replace(route, since=2), flips, versions())
    assert raised.value.reason == "nothing_to_roll_back"


def test_before_the_second_promotion_there_is_nothing_to_roll_back_to() -> None:
    for targets in ((), (1,), (1, 1)):
        with pytest.raises(Conflict) as raised:
            rollback_target(*served(*targets), versions())
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
    gates = tuple(at_least(gate, float(gate == "effect"), 1.0, "") for gate in ("effect", "task"))
    version = replace(a_version(VersionState.REJECTED), gates=gates)
    with pytest.raises(Conflict, match="rejected by task") as raised:
        check_promotable(ROUTE, version)
    assert raised.value.reason == "version_rejected"


def test_a_version_of_another_unit_may_not() -> None:
    with pytest.raises(Conflict) as raised:
        check_promotable(replace(ROUTE, unit=Unit("sales")), a_version())
    assert raised.value.reason == "foreign_version"


@pytest.mark.parametrize("when", ["withdrawn_at", "collected_at"])
def test_a_version_that_was_given_up_may_not(when: str) -> None:
    given_up: dict[str, Any] = {when: 5.0}
    with pytest.raises(Conflict) as raised:
        check_promotable(ROUTE, replace(a_version(), **given_up))
    assert raised.value.reason == "version_retired"
