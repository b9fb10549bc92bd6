"""How an engine's slots are given out, and which promotion is refused before it makes it thrash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.domain.names import Digest, Unit, VersionId
from adapters.domain.slots import Engine, check_fits, engine_of, plan_slots
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict

LIMITS = {"max_cpu_loras": 4, "max_loras": 2, "max_lora_rank": 16}


def ids(*numbers: int) -> frozenset[VersionId]:
    return frozenset(VersionId(number) for number in numbers)


def version(number: int, *, rank: int = 8) -> Version:
    return Version(
        id=VersionId(number),
        adapter="support",
        number=number,
        unit=Unit("support"),
        state=VersionState.CANDIDATE,
        digest=Digest("a" * 64),
        base_fingerprint=Digest("b" * 64),
        rank=rank,
        size_bytes=1,
        job_id=None,
        created_at=0.0,
    )


def engine(**facts: frozenset[VersionId]) -> Engine:
    made = engine_of("node-1:8000", LIMITS, **facts)
    assert made is not None
    return made


def refusal(target: Version, named: frozenset[VersionId], *engines: Engine) -> str | None:
    try:
        check_fits(target, named, engines)
    except Conflict as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    ("named", "facts", "refused"),
    [
        (ids(), {}, None),
        (ids(1, 2, 3), {}, None),
        (ids(1, 2, 3, 4), {}, "no_slot"),
        (ids(1, 2, 3, 4), {"failed": ids(4)}, None),
        (ids(1, 2, 3, 4), {"loaded": ids(9)}, None),
        (ids(1, 2, 3, 4, 5, 6), {}, "no_slot"),
        (ids(1, 2, 3, 9), {}, None),
    ],
)
def test_a_version_goes_live_where_old_and_new_fit_beside_all_that_routes_name(
    named: frozenset[VersionId], facts: dict[str, frozenset[VersionId]], refused: str | None
) -> None:
    assert refusal(version(9), named, engine(**facts)) == refused


def test_one_engine_that_is_too_small_is_enough_to_refuse_and_is_named() -> None:
    large = engine_of("large", LIMITS | {"max_cpu_loras": 32})
    assert large is not None
    assert refusal(version(9), ids(1, 2, 3, 4), large) is None
    with pytest.raises(Conflict) as refused:
        check_fits(version(9), ids(1, 2, 3, 4), [large, engine()])
    assert "support:9 finds no slot in node-1:8000" in refused.value.message
    assert "holds 4 versions at once, routes name 4" in refused.value.message


def test_a_rank_that_is_not_served_is_refused_before_anybody_loads_it() -> None:
    assert refusal(version(9, rank=16), ids(), engine()) is None
    assert refusal(version(9, rank=32), ids(), engine()) == "rank_not_served"


@pytest.mark.parametrize("limits", [{}, {"max_cpu_loras": "many"}, {"max_cpu_loras": None}])
def test_an_engine_that_does_not_say_what_it_holds_refuses_nothing(limits: dict[str, str]) -> None:
    assert engine_of("old", limits) is None


@given(st.integers(2, 1024), st.integers(0, 2000), st.integers(0, 2000))
def test_no_slot_is_given_out_twice_and_what_routes_name_comes_first(
    slots: int, routes: int, rollback: int
) -> None:
    plan = plan_slots(slots, routes=routes, rollback=rollback)
    assert plan.routes + plan.moving + plan.rollback + plan.warm == slots
    assert min(plan.routes, plan.moving, plan.rollback, plan.warm, plan.lacking) >= 0
    assert plan.routes + plan.lacking == routes
    assert plan.rollback == 0 or (plan.moving == 1 and plan.lacking == 0)
    assert plan.warm == 0 or plan.rollback == rollback


def test_the_engine_of_many_aliases_is_planned_as_the_reference_page_says() -> None:
    plan = plan_slots(32, routes=12, rollback=10)
    assert (plan.routes, plan.moving, plan.rollback, plan.warm) == (12, 1, 10, 9)
