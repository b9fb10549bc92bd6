"""A flood waits in its own lane, and the others find room."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import Overloaded
from service.engine.turns import ALONE, RECENT_SECONDS, Turn, Turns


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(turns: Turns, lane: str, most: int = 1000, *, weight: float = 1.0) -> list[Turn]:
    """As many turns as the lane gets at once."""
    found: list[Turn] = []
    while len(found) < most and (turn := turns.take(lane, weight, 1)) is not None:
        found.append(turn)
    return found


def end(*turns: Turn) -> None:
    for turn in turns:
        turn.__exit__()


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_one_lane_alone_gets_most_of_the_engine_and_leaves_room_for_another() -> None:
    turns = Turns(16)
    assert len(taken(turns, "flood")) == 16 * ALONE
    assert len(taken(turns, "calm")) == 4


def test_lanes_that_have_asked_lately_share_by_weight() -> None:
    clock = Clock()
    turns = Turns(16, clock=clock)
    end(*taken(turns, "calm", 1, weight=3.0))
    assert len(taken(turns, "flood")) == 4
    assert len(taken(turns, "calm", weight=3.0)) == 12
    assert taken(turns, "flood") == []


def test_a_lane_that_is_silent_for_long_keeps_nothing_free() -> None:
    clock = Clock()
    turns = Turns(16, clock=clock)
    end(*taken(turns, "calm", 1))
    clock.now += RECENT_SECONDS + 1
    assert len(taken(turns, "flood")) == 12


def test_a_request_larger_than_its_part_goes_when_its_lane_is_empty() -> None:
    turns = Turns(8)
    large = turns.take("flood", 1.0, 64)
    assert large is not None
    assert turns.take("flood", 1.0, 1) is None
    assert len(taken(turns, "calm")) == 2, "what others have free, it does not take"
    end(large)
    assert turns.take("flood", 1.0, 1) is not None


async def test_who_waits_is_called_in_order_and_the_lane_with_least_first() -> None:
    turns = Turns(4, clock=Clock())
    calm = taken(turns, "calm", 1)
    flood = taken(turns, "flood")
    assert len(flood) == 2
    called: list[str] = []

    async def wait(lane: str, name: str) -> Turn:
        turn = await turns.wait(lane, 1.0, 1)
        called.append(name)
        return turn

    waiting = [asyncio.create_task(wait("flood", f"flood {n}")) for n in range(3)]
    await settled()
    assert (called, turns.waiting) == ([], 3)
    end(*calm)
    await settled()
    assert called == [], "its part is its part"
    end(*flood)
    await settled()
    assert called == ["flood 0", "flood 1"]
    for task in waiting[:2]:
        end(await task)
    await settled()
    assert called == ["flood 0", "flood 1", "flood 2"]
    end(await waiting[2])
    assert (turns.waiting, turns._running) == (0, 0)


async def test_a_turn_that_does_not_come_is_said_to_be_an_overload() -> None:
    turns = Turns(1, wait_seconds=0.01)
    (turn,) = taken(turns, "flood")
    with pytest.raises(Overloaded):
        await turns.wait("flood", 1.0, 1)
    assert turns.waiting == 0
    end(turn)
    assert turns.take("flood", 1.0, 1) is not None


async def test_who_goes_away_while_it_waits_leaves_no_turn_behind() -> None:
    turns = Turns(1)
    (turn,) = taken(turns, "flood")
    gone = asyncio.create_task(turns.wait("flood", 1.0, 1))
    called = asyncio.create_task(turns.wait("flood", 1.0, 1))
    await settled()
    gone.cancel()
    await settled()
    end(turn)
    called.cancel()  # called, and gone before it noticed
    await settled()
    assert (turns.waiting, turns._running) == (0, 0)


@given(
    st.integers(1, 32),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 80), st.booleans()), max_size=60),
)
def test_whatever_comes_the_engine_holds_no_more_than_it_can_and_all_are_served(
    capacity: int, steps: list[tuple[str, int, bool]]
) -> None:
    asyncio.run(served(capacity, steps))


async def served(capacity: int, steps: list[tuple[str, int, bool]]) -> None:
    clock = Clock()
    turns = Turns(capacity, clock=clock)
    running: list[Turn] = []
    waiting: list[asyncio.Task[Turn]] = []

    async def collect() -> None:
        await settled()
        for task in [task for task in waiting if task.done()]:
            waiting.remove(task)
            running.append(task.result())
        assert turns._running <= capacity

    for lane, sequences, ends in steps:
        clock.now += 1.0
        turn = turns.take(lane, 1.0, sequences)
        if turn is not None:
            running.append(turn)
        else:
            waiting.append(asyncio.create_task(turns.wait(lane, 1.0, sequences)))
        if ends and running:
            end(running.pop(0))
        await collect()
    while running or waiting:
        assert running, "they wait for nobody"
        end(running.pop(0))
        await collect()
    assert turns._running == 0


async def test_who_went_away_is_passed_over_by_who_is_called_at_that_moment() -> None:
    turns = Turns(1)
    (turn,) = taken(turns, "flood")
    gone = asyncio.create_task(turns.wait("flood", 1.0, 1))
    behind = asyncio.create_task(turns.wait("flood", 1.0, 1))
    await settled()
    gone.cancel()
    end(turn)  # before the other has noticed that it is cancelled
    await settled()
    assert behind.done()
    with pytest.raises(asyncio.CancelledError):
        await gone
    end(behind.result())
    assert (turns.waiting, turns._running) == (0, 0)
