"""The shares of all replicas are at most the limit, and go where they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from adapters.domain.limits import Holding, entry_share, next_share


def held(used: int = 0, share: int = 0, wanted: int = 0, *, reporting: bool = True) -> Holding:
    return Holding(used=used, share=share, wanted=wanted, reporting=reporting)


def test_a_small_limit_lets_each_replica_begin_with_one_where_there_are_as_many() -> None:
    assert [entry_share(limit, 3) for limit in (0, 2, 3, 5, 6, 12)] == [0, 0, 1, 1, 1, 2]


def test_one_replica_alone_has_all_of_it() -> None:
    assert entry_share(100, 1) == 100
    assert next_share(100, used=0, wanted=0, others=[], replicas=1) == 100


def test_what_a_silent_replica_used_stays_used_and_what_it_had_left_is_free() -> None:
    gone = held(used=30, share=90, reporting=False)
    assert next_share(100, used=0, wanted=0, others=[gone], replicas=1) == 70


def test_one_that_is_asked_gets_what_the_others_do_not_need() -> None:
    idle = held(share=25)
    assert next_share(100, used=25, wanted=50, others=[idle], replicas=2) == 75
    assert next_share(100, used=75, wanted=500, others=[idle], replicas=2) == 75


def test_one_that_has_it_all_gives_its_even_part_back_where_another_is_asked_in_vain() -> None:
    hungry = held(share=0, wanted=40)
    assert next_share(100, used=90, wanted=90, others=[hungry], replicas=2) == 90
    assert next_share(100, used=60, wanted=90, others=[hungry], replicas=2) == 60
    assert next_share(100, used=20, wanted=90, others=[hungry], replicas=2) == 50


def test_a_limit_that_is_lowered_below_what_is_used_leaves_nothing_to_give() -> None:
    assert next_share(10, used=50, wanted=5, others=[held(used=70, share=80)], replicas=2) == 50


@dataclass(frozen=True)
class Replica:
    """What the registry knows of one."""

    used: int = 0
    share: int = 0
    wanted: int = 0
    synced: bool = False


@given(
    limit=st.integers(0, 10_000),
    replicas=st.integers(1, 4),
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["ask", "sync", "age"]), st.integers(0, 3000)),
        max_size=60,
    ),
)
def test_whatever_comes_when_no_more_is_admitted_than_the_limit(
    limit: int, replicas: int, steps: list[tuple[int, str, int]]
) -> None:
    known = [Replica() for _ in range(replicas)]
    here = [0] * replicas  # what each has really admitted, which the registry hears of later
    for number, what, amount in steps:
        who = number % replicas
        mine = known[who]
        allowed = mine.share if mine.synced else entry_share(limit, replicas)
        if what == "ask":
            if here[who] + amount <= allowed:
                here[who] += amount
            else:
                known[who] = replace(mine, wanted=mine.wanted + amount)
        elif what == "age":
            here[who] -= min(here[who], amount)
        else:
            others = [
                held(each.used, each.share, each.wanted)
                for other, each in enumerate(known)
                if other != who and each.synced
            ]
            share = next_share(
                limit, used=here[who], wanted=mine.wanted, others=others, replicas=replicas
            )
            known[who] = Replica(used=here[who], share=share, synced=True)
        assert sum(here) <= limit


@dataclass(frozen=True)
class Hearing:
    """A replica that hears the answer to its claim some time after the registry has given it."""

    share: int
    """What it goes by."""
    known_used: int = 0
    known_share: int = 0
    told: int | None = None
    """The answer that it has not heard yet."""


@given(
    limit=st.integers(0, 200),
    replicas=st.integers(2, 4),
    steps=st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from(["ask", "claim", "hear", "end"]), st.integers(1, 90)
        ),
        max_size=60,
    ),
)
def test_an_answer_that_is_heard_late_lets_nobody_admit_more_than_the_limit(
    limit: int, replicas: int, steps: list[tuple[int, str, int]]
) -> None:
    entry = entry_share(limit, replicas)
    known = [Hearing(share=entry, known_share=entry) for _ in range(replicas)]
    here = [0] * replicas
    for number, what, amount in steps:
        who = number % replicas
        mine = known[who]
        if what == "ask" and here[who] + amount <= mine.share:
            here[who] += amount
        elif what == "end":
            here[who] -= min(here[who], amount)
        elif what == "hear" and mine.told is not None:
            known[who] = replace(mine, share=mine.told, told=None)
        elif what == "claim":
            others = [held(each.known_used, each.known_share) for each in known if each is not mine]
            told = next_share(
                limit, used=here[who], wanted=amount, others=others, replicas=replicas
            )
            kept = max(told, mine.share)
            known[who] = replace(mine, known_used=here[who], known_share=kept, told=told)
        assert sum(here) <= limit


@given(limit=st.integers(100, 10_000), replicas=st.integers(2, 4))
def test_the_only_replica_that_is_asked_has_nearly_all_of_it_after_some_rounds(
    limit: int, replicas: int
) -> None:
    shares = [entry_share(limit, replicas)] * replicas
    for _ in range(6):
        for who in range(replicas):
            busy = who == 0
            others = [held(share=s) for n, s in enumerate(shares) if n != who]
            if not busy:
                others[0] = held(used=shares[0], share=shares[0], wanted=limit)
            shares[who] = next_share(
                limit,
                used=shares[0] if busy else 0,
                wanted=limit if busy else 0,
                others=others,
                replicas=replicas,
            )
    assert shares[0] >= limit * 0.95 - replicas
