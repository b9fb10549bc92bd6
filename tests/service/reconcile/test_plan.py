"""The plan: what is loaded and unloaded, as a pure function."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.domain.names import Unit, VersionId
from service.reconcile.plan import Use, by_use, desired, plan

ids = st.integers(1, 12).map(VersionId)


def v(*numbers: int) -> tuple[VersionId, ...]:
    return tuple(VersionId(number) for number in numbers)


def test_what_is_wanted_and_missing_is_loaded_in_order_of_want() -> None:
    steps = plan(v(3, 1), servable={*v(1, 2, 3)}, loaded=set(), leased=set(), capacity=4)
    assert steps.load == v(3, 1)
    assert steps.unload == ()


def test_an_unwanted_version_keeps_its_slot_until_the_slot_is_needed() -> None:
    servable = {*v(1, 2, 3)}
    roomy = plan(v(1, 2), servable=servable, loaded={*v(3)}, leased=set(), capacity=3)
    tight = plan(v(1, 2), servable=servable, loaded={*v(3)}, leased=set(), capacity=2)
    assert roomy.unload == ()
    assert tight.unload == v(3)
    assert tight.load == v(1, 2)


def test_a_version_that_answers_requests_is_never_unloaded() -> None:
    steps = plan(v(1), servable={*v(1, 3)}, loaded={*v(3)}, leased={*v(3)}, capacity=1)
    assert steps.unload == ()
    assert steps.load == ()
    assert steps.waiting == v(1)


def test_a_version_that_may_no_longer_answer_goes_at_once() -> None:
    steps = plan((), servable=set(), loaded={*v(5)}, leased=set(), capacity=8)
    assert steps.unload == v(5)


def test_the_least_wanted_goes_first() -> None:
    steps = plan(v(9, 1, 2), servable={*v(1, 2, 3, 9)}, loaded={*v(1, 2)}, leased=set(), capacity=2)
    assert steps.unload == v(2)
    assert steps.load == v(9)


def use(
    number: int, unit: str, *, last: float, asked: float | None = None, resident: bool = True
) -> Use:
    return Use(
        version=VersionId(number),
        unit=Unit(unit),
        resident=resident,
        last_use=last,
        asked_at=asked,
    )


def test_what_is_used_is_worth_more_than_what_was_loaded_last() -> None:
    loaded_last_and_idle, loaded_first_and_used = (
        use(2, "support", last=1.0),
        use(1, "support", last=9.0),
    )
    assert by_use([loaded_last_and_idle, loaded_first_and_used], {}) == v(1, 2)


def test_live_versions_and_rollout_targets_come_before_whatever_is_used() -> None:
    assert desired(v(7, 8), [use(1, "support", last=9.0), use(7, "hr", last=1.0)], {}) == v(7, 8, 1)


def test_a_unit_that_cycles_its_versions_pushes_out_its_own_first() -> None:
    cycled = [use(n, "support", last=100.0 + n) for n in range(1, 6)]
    asked = use(6, "support", last=200.0, asked=200.0, resident=False)
    other = use(9, "sales", last=1.0)
    ranked = by_use([*cycled, asked, other], {})
    assert ranked[0] == VersionId(6)
    assert ranked.index(VersionId(9)) == 1, "the other unit's only version comes second"
    steps = plan(
        ranked, servable=set(ranked), loaded={*v(1, 2, 3, 4, 5, 9)}, leased=set(), capacity=6
    )
    assert (steps.load, steps.unload) == (v(6), v(1))


def test_waiting_units_take_turns_whatever_they_ask_for() -> None:
    greedy = [use(n, "support", last=10.0 + n, asked=10.0 + n, resident=False) for n in range(1, 4)]
    modest = use(9, "sales", last=50.0, asked=50.0, resident=False)
    assert by_use([*greedy, modest], {Unit("support"): 5.0}) == v(9, 1, 2, 3)
    assert by_use([*greedy, modest], {Unit("sales"): 5.0}) == v(1, 9, 2, 3)


def test_what_was_just_loaded_stays_until_whoever_waits_for_it_has_taken_it_up() -> None:
    taken_up_next = use(1, "support", last=1.0, asked=5.0)
    next_in_line = use(2, "support", last=9.0, asked=2.0, resident=False)
    assert by_use([next_in_line, taken_up_next], {}) == v(1, 2)


def test_what_is_wanted_beyond_the_last_slot_waits() -> None:
    steps = plan(v(1, 2, 3), servable={*v(1, 2, 3)}, loaded={*v(1)}, leased=set(), capacity=2)
    assert steps.load == v(2)
    assert steps.waiting == v(3)


@given(
    wanted=st.lists(ids, unique=True),
    loaded=st.sets(ids),
    leased=st.sets(ids),
    servable=st.sets(ids),
    capacity=st.integers(1, 8),
)
def test_no_plan_breaks_a_lease_or_overfills_the_engine_and_following_it_settles(
    wanted: list[VersionId],
    loaded: set[VersionId],
    leased: set[VersionId],
    servable: set[VersionId],
    capacity: int,
) -> None:
    wanted = [version for version in wanted if version in servable]
    loaded = set(sorted(loaded)[:capacity])
    steps = plan(wanted, servable=servable, loaded=loaded, leased=leased, capacity=capacity)
    after = (loaded - set(steps.unload)) | set(steps.load)
    assert not set(steps.unload) & leased
    assert len(after) <= capacity
    again = plan(wanted, servable=servable, loaded=after, leased=leased, capacity=capacity)
    assert again.unload == ()
    assert again.load == ()
    if not leased:
        assert set(wanted[:capacity]) <= after
