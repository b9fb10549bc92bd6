"""The plan: what is loaded and unloaded, as a pure function."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.domain.names import Alias, Digest, Unit, VersionId
from adapters.domain.routes import Route
from adapters.domain.versions import Version, VersionState
from adapters.registry import Snapshot
from service.reconcile.plan import desired, plan

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


def version(number: int) -> Version:
    return Version(
        id=VersionId(number), adapter="support", number=number, unit=Unit("support"),
        digest=Digest("a" * 64), base_fingerprint=Digest("b" * 64), rank=8, size_bytes=1,
        created_at=0.0, state=VersionState.CANDIDATE, job_id=None,
    )  # fmt: skip


def test_a_few_asked_for_by_name_come_before_a_rollback_target_and_the_rest_behind() -> None:
    stable, previous = v(2, 1)
    route = Route(alias=Alias("support"), unit=Unit("support"), stable=stable, previous=previous)
    snapshot = Snapshot(
        revision=1,
        routes={route.alias: route},
        rollouts=(),
        versions={VersionId(number): version(number) for number in range(1, 9)},
        keys=(),
    )
    assert desired(snapshot, v(8, 7, 6, 5, 4, 3)) == v(2, 8, 7, 6, 5, 1, 4, 3)


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
