"""A flood waits in its own lane, the others find room, and nothing that is free stays so."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import Overloaded
from service.engine.turns import ALONE, RECENT_SECONDS, Load, Turn, Turns
from tests.clock import Clock

ONE = Load(sequences=1, tokens=10)


def taken(turns: Turns, lane: str, most: int = 1000, *, weight: float = 1.0) -> list[Turn]:
    """As many turns as the lane gets at once."""
    found: list[Turn] = []
    while len(found) < most and (turn := turns.take(lane, weight, ONE)) is not None:
        found.append(turn)
    return found


def end(*turns: Turn) -> None:
    for turn in turns:
        turn.__exit__()


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


class Queue:
    """Requests that wait for their turns, and who was called."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._waiting: dict[asyncio.Task[Turn], str] = {}
        self.running: list[tuple[str, Turn]] = []

    def ask(self, lane: str, load: Load = ONE, *, weight: float = 1.0) -> None:
        if (turn := self._turns.take(lane, weight, load)) is not None:
            self.running.append((lane, turn))
            return
        task = asyncio.create_task(self._turns.wait(lane, weight, load))
        self._waiting[task] = lane

    async def collect(self) -> list[str]:
        """The lanes of those that have been called since, in the order in which they asked."""
        await settled()
        called = [task for task in self._waiting if task.done()]
        found = [(self._waiting.pop(task), task.result()) for task in called]
        self.running += found
        return [lane for lane, _ in found]

    def end_oldest(self) -> str:
        lane, turn = self.running.pop(0)
        end(turn)
        return lane

    @property
    def lanes(self) -> Counter[str]:
        """Of those that run."""
        return Counter(lane for lane, _ in self.running)

    async def drain(self) -> None:
        while self.running:
            self.end_oldest()
            await self.collect()
        assert not self._waiting


def test_one_lane_alone_gets_most_of_the_engine_and_leaves_room_for_another() -> None:
    turns = Turns(16)
    assert len(taken(turns, "flood")) == 16 * ALONE
    assert len(taken(turns, "calm")) == 4


async def test_what_others_leave_idle_is_used_at_once() -> None:
    turns = Turns(64, shared=16, clock=Clock())
    end(*taken(turns, "calm", 1))
    queue = Queue(turns)
    for _ in range(40):
        queue.ask("flood")
    assert queue.lanes == {"flood": 16}, "calm has asked lately, and wants nothing now"
    queue.end_oldest()
    assert await queue.collect() == ["flood"]
    await queue.drain()


async def test_who_has_had_less_gets_its_part_at_once_though_another_has_it_all() -> None:
    turns = Turns(64, shared=16, clock=Clock())
    end(*taken(turns, "calm", 1, weight=3.0))
    queue = Queue(turns)
    for _ in range(40):
        queue.ask("flood")
    calm = taken(turns, "calm", weight=3.0)
    assert len(calm) == 12
    queue.end_oldest()
    assert await queue.collect() == [], "what it has borrowed, it gives back as it ends"
    end(*calm)
    await queue.drain()


async def test_beside_a_lane_that_keeps_to_its_part_others_run_fewer_at_once() -> None:
    turns = Turns(64, shared=16, beside_calm=4, clock=Clock())
    end(*taken(turns, "flood", 2))
    calm = taken(turns, "calm", 1)
    queue = Queue(turns)
    for _ in range(40):
        queue.ask("flood")
    assert queue.lanes == {"flood": 3}
    calm += taken(turns, "calm", 7)
    assert len(calm) == 8, "of its own part nothing is held back"
    end(*calm)
    await queue.collect()
    assert queue.lanes == {"flood": 4}, "it has asked lately"
    await queue.drain()


async def test_where_all_want_more_than_their_parts_they_share_all_there_is() -> None:
    turns = Turns(64, shared=16, beside_calm=4, clock=Clock())
    queue = Queue(turns)
    for _ in range(40):
        queue.ask("one")
        queue.ask("other")
    while queue.lanes.total() < 16:
        assert await queue.collect(), "there is room, and somebody waits"
    assert queue.lanes == {"one": 8, "other": 8}
    await queue.drain()


async def test_a_request_of_many_answers_is_called_beside_a_calm_lane_too() -> None:
    turns = Turns(64, shared=16, beside_calm=4, clock=Clock())
    end(*taken(turns, "calm", 1))
    queue = Queue(turns)
    queue.ask("flood", Load(8, 80))
    queue.ask("flood", Load(8, 80))
    assert len(queue.running) == 1
    calm = taken(turns, "calm", 2)
    queue.end_oldest()
    assert await queue.collect() == ["flood"]
    end(*calm)
    await queue.drain()


async def test_what_several_want_is_shared_by_weight() -> None:
    turns = Turns(64, shared=16, clock=Clock())
    queue = Queue(turns)
    for _ in range(100):
        queue.ask("one", weight=1.0)
        queue.ask("three", weight=3.0)
    ended = Counter[str]()
    for _ in range(100):
        ended[queue.end_oldest()] += 1
        await queue.collect()
    # by the time that the first has had its 25, the second has had all of its own
    assert 2.5 <= ended["three"] / ended["one"] <= 3.5
    await queue.drain()


async def test_lanes_share_tokens_and_not_requests() -> None:
    turns = Turns(8, shared=4, clock=Clock())
    queue = Queue(turns)
    loads = {"long": Load(1, 1000), "short": Load(1, 100)}
    for _ in range(20):
        queue.ask("long", loads["long"])
    for _ in range(200):
        queue.ask("short", loads["short"])
    await queue.collect()
    tokens = Counter[str]()
    for _ in range(110):
        # long prompts of short answers: each is in the engine for as long
        lane = queue.end_oldest()
        tokens[lane] += loads[lane].tokens
        await queue.collect()
    assert 0.6 <= tokens["long"] / tokens["short"] <= 1.7, tokens
    await queue.drain()


async def test_what_was_reserved_and_not_used_counts_for_nobody() -> None:
    turns = Turns(4, shared=1, clock=Clock())
    (modest,) = taken(turns, "modest", 1)
    queue = Queue(turns)
    for _ in range(4):
        queue.ask("modest", Load(1, 1000))
        queue.ask("other", Load(1, 100))
    modest.used = 0
    end(modest)
    called = []
    for _ in range(7):
        called += await queue.collect()
        lane, turn = queue.running.pop(0)
        turn.used = 1 if lane == "modest" else 100
        end(turn)
    assert called.count("modest") >= 3, called
    await queue.collect()
    await queue.drain()


async def test_a_lane_that_comes_back_has_saved_nothing_up() -> None:
    turns = Turns(4, shared=2, clock=Clock())
    end(*taken(turns, "late", 1))
    for _ in range(50):
        end(*taken(turns, "early", 2))
    queue = Queue(turns)
    for _ in range(12):
        queue.ask("early")
        queue.ask("late")
    ended = Counter[str]()
    for _ in range(12):
        ended[queue.end_oldest()] += 1
        await queue.collect()
    assert abs(ended["early"] - ended["late"]) <= 2, ended
    await queue.drain()


def test_a_lane_that_is_silent_for_long_keeps_nothing_free() -> None:
    clock = Clock()
    turns = Turns(16, shared=4, clock=clock)
    end(*taken(turns, "calm", 1))
    assert len(taken(turns, "flood", 4)) == 4
    assert turns.take("flood", 1.0, ONE) is None
    clock.now += RECENT_SECONDS + 1
    assert len(taken(turns, "flood")) == 8


def test_a_request_larger_than_its_part_takes_its_part() -> None:
    turns = Turns(8)
    large = turns.take("flood", 1.0, Load(64, 640))
    assert large is not None
    assert turns.take("flood", 1.0, ONE) is None
    assert len(taken(turns, "calm")) == 2, "what others have free, it does not take"
    end(large)
    assert turns.take("flood", 1.0, ONE) is not None


async def test_a_large_request_is_not_passed_by_small_ones_for_ever() -> None:
    turns = Turns(16, shared=8, clock=Clock())
    queue = Queue(turns)
    for _ in range(8):
        queue.ask("small")
    queue.ask("large", Load(4, 4))
    for _ in range(40):
        queue.ask("small")
    for _ in range(8):
        queue.end_oldest()
        await queue.collect()
    assert queue.lanes["large"] == 1
    await queue.drain()


def test_what_nobody_waits_for_comes_below_every_lane() -> None:
    turns = Turns(64, shared=4, clock=Clock())
    spare = [turns.take_spare(ONE) for _ in range(5)]
    assert [turn is not None for turn in spare] == [True] * 4 + [False]
    assert len(taken(turns, "calm", 2)) == 2, "it is nobody's rival"
    end(*(turn for turn in spare if turn is not None))
    assert len(taken(turns, "flood", 46)) == 2


async def test_nothing_spare_goes_before_who_waits() -> None:
    turns = Turns(2, shared=1, clock=Clock())
    queue = Queue(turns)
    queue.ask("calm")
    queue.ask("calm")
    assert await queue.collect() == []
    assert turns.take_spare(ONE) is None
    queue.end_oldest()
    assert turns.take_spare(ONE) is None
    assert await queue.collect() == ["calm"]
    await queue.drain()


async def test_who_waits_in_one_lane_is_called_in_order() -> None:
    turns = Turns(4, clock=Clock())
    flood = taken(turns, "flood")
    called: list[int] = []

    async def wait(number: int) -> Turn:
        turn = await turns.wait("flood", 1.0, ONE)
        called.append(number)
        return turn

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await settled()
    assert (called, turns.waiting) == ([], 3)
    end(*flood)
    await settled()
    assert called == [0, 1, 2]
    end(*[await task for task in waiting])
    assert (turns.waiting, turns._running) == (0, 0)


async def test_a_turn_that_does_not_come_is_said_to_be_an_overload() -> None:
    turns = Turns(1, wait_seconds=0.01)
    (turn,) = taken(turns, "flood")
    with pytest.raises(Overloaded):
        await turns.wait("flood", 1.0, ONE)
    assert turns.waiting == 0
    end(turn)
    assert turns.take("flood", 1.0, ONE) is not None


async def test_who_goes_away_while_it_waits_leaves_no_turn_behind() -> None:
    turns = Turns(1)
    (turn,) = taken(turns, "flood")
    gone = asyncio.create_task(turns.wait("flood", 1.0, ONE))
    called = asyncio.create_task(turns.wait("flood", 1.0, ONE))
    await settled()
    gone.cancel()
    await settled()
    end(turn)
    called.cancel()  # called, and gone before it noticed
    await settled()
    assert (turns.waiting, turns._running) == (0, 0)


async def test_who_went_away_is_passed_over_by_who_is_called_at_that_moment() -> None:
    turns = Turns(1)
    (turn,) = taken(turns, "flood")
    gone = asyncio.create_task(turns.wait("flood", 1.0, ONE))
    behind = asyncio.create_task(turns.wait("flood", 1.0, ONE))
    await settled()
    gone.cancel()
    end(turn)  # before the other has noticed that it is cancelled
    await settled()
    assert behind.done()
    with pytest.raises(asyncio.CancelledError):
        await gone
    end(behind.result())
    assert (turns.waiting, turns._running) == (0, 0)


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 80), st.integers(0, 5000), st.booleans()),
    max_size=60,
)


@given(st.integers(1, 32), st.integers(1, 32), st.integers(1, 32), STEPS)
def test_whatever_comes_the_engine_holds_no_more_than_it_can_and_all_are_served(
    capacity: int, shared: int, calm: int, steps: list[tuple[str, int, int, bool]]
) -> None:
    asyncio.run(served(capacity, shared, calm, steps))


async def served(
    capacity: int, shared: int, calm: int, steps: list[tuple[str, int, int, bool]]
) -> None:
    clock = Clock()
    turns = Turns(capacity, shared=shared, beside_calm=calm, clock=clock)
    queue = Queue(turns)
    for lane, sequences, tokens, ends in steps:
        clock.now += 1.0
        queue.ask(lane, Load(sequences, tokens))
        if ends and queue.running:
            queue.end_oldest()
        await queue.collect()
        assert turns._running <= capacity
        assert queue.running or not turns.waiting, "they wait for nobody"
    await queue.drain()
    assert (turns._running, turns.waiting) == (0, 0)
    assert all(lane.reserved == 0 for lane in turns._lanes.values())
