"""What accounts use is counted in all API processes of one engine together."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.domain.limits import Quota
from service.engine.meters import MAX_ACCOUNTS, SHARE_SECONDS, Meter, Meters
from service.engine.minute_window import CELLS, SLOT_SECONDS, SLOTS, MinuteWindow, slots_until

NOON = 20_000 * 86_400.0 + 43_200.0
REQUESTS, TOKENS = Quota.REQUESTS_PER_MINUTE, Quota.TOKENS_PER_MINUTE
DAY, MONTH = Quota.TOKENS_PER_DAY, Quota.TOKENS_PER_MONTH


class Clock:
    """Both clocks, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = NOON

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "meters"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(path: Path, clock: Clock) -> Iterator[Callable[[int], Meters]]:
    """A process's view, of two in front of one engine."""
    made: list[Meters] = []

    def open_(process: int) -> Meters:
        meters = Meters(path, process=process, processes=2, clock=clock, wall=lambda: clock.wall)
        made.append(meters)
        return meters

    yield open_
    for meters in made:
        meters.close()


def count(meters: Meters, *, requests: int = 0, tokens: int = 0) -> Meter:
    meter, now = meters.of("unit:support"), meters.now()
    meter.move(now)
    meter.charge(now, requests=requests, tokens=tokens)
    return meter


def used(meters: Meters, quota: Quota) -> int:
    meter, now = meters.of("unit:support"), meters.now()
    meter.move(now)
    return meter.used(quota, now)


def test_every_process_sees_what_all_have_in_flight_and_have_used(
    opened: Callable[[int], Meters],
) -> None:
    first, second = opened(0), opened(1)
    for meters, requests, sequences in ((first, 1, 16), (second, 2, 2)):
        meters.of("unit:support").hold_requests(requests)
        meters.of("unit:support").hold_sequences(sequences)
    count(first, requests=1, tokens=100)
    count(second, requests=2, tokens=30)
    for meters in (first, second):
        meter = meters.of("unit:support")
        assert (meter.requests, meter.sequences) == (3, 18)
        assert [used(meters, quota) for quota in Quota] == [3, 130, 3, 18, 130, 130]
        assert meters.of("unit:hr").requests == 0


def test_what_was_used_leaves_a_minute_after_a_minute_and_no_sooner(
    opened: Callable[[int], Meters], clock: Clock
) -> None:
    first, second = opened(0), opened(1)
    count(first, requests=1, tokens=100)
    clock.pass_(30.0)
    count(second, requests=1, tokens=7)
    clock.pass_(30.0)
    assert [used(meters, TOKENS) for meters in (first, second)] == [107, 107]
    clock.pass_(SLOT_SECONDS)
    assert [used(meters, TOKENS) for meters in (first, second)] == [7, 7]
    assert [used(meters, DAY) for meters in (first, second)] == [107, 107]
    clock.pass_(1e6)
    assert [used(meters, TOKENS) for meters in (first, second)] == [0, 0]


def test_a_budget_begins_anew_with_the_day_and_one_of_a_month_with_the_month(
    opened: Callable[[int], Meters], clock: Clock
) -> None:
    meters = opened(0)
    count(meters, tokens=100)
    clock.pass_(86_400.0)
    assert (used(meters, DAY), used(meters, MONTH)) == (0, 100)
    clock.pass_(31 * 86_400.0)
    assert (used(meters, DAY), used(meters, MONTH)) == (0, 0)


def test_what_is_given_back_after_midnight_is_not_taken_from_the_new_day(
    opened: Callable[[int], Meters], clock: Clock
) -> None:
    meters = opened(0)
    reserved = meters.now()
    count(meters, tokens=100)
    clock.pass_(86_400.0)
    count(meters, tokens=10)
    meters.of("unit:support").charge(reserved, tokens=-60)
    assert used(meters, DAY) == 10
    assert used(meters, TOKENS) == 10
    assert used(meters, MONTH) == 50


def test_the_registrys_clock_decides_the_day_also_when_it_leaps(
    opened: Callable[[int], Meters], clock: Clock
) -> None:
    first, second = opened(0), opened(1)
    count(first, tokens=100)
    first.set_clock(NOON + 86_400.0, replicas=1)
    assert used(second, DAY) == 0
    count(second, tokens=5)
    first.set_clock(NOON, replicas=1)
    assert used(first, DAY) == 100, "a day that comes back is the same day"
    assert used(second, TOKENS) == 105, "a minute does not know of it"


def test_a_share_holds_while_it_is_confirmed_and_is_never_more_than_the_limit(
    opened: Callable[[int], Meters], clock: Clock
) -> None:
    owner, other = opened(0), opened(1)
    owner.set_clock(NOON, replicas=4)
    meter = other.of("unit:support")
    for quota in Quota:
        assert meter.allowed(quota, 800, other.now()) == 100, "an eighth: half, for four"
        owner.of("unit:support").give(quota, share=700, elsewhere=60, now=owner.now())
        assert meter.allowed(quota, 800, other.now()) == 700
        assert meter.allowed(quota, 500, other.now()) == 500, "the limit was lowered meanwhile"
        assert meter.elsewhere(quota, other.now()) == 60
    clock.pass_(SHARE_SECONDS + 2 * SLOT_SECONDS)
    assert meter.allowed(TOKENS, 800, other.now()) == 100
    assert meter.allowed(DAY, 800, other.now()) == 700
    clock.pass_(86_400.0)
    assert meter.allowed(DAY, 800, other.now()) == 100
    assert meter.allowed(MONTH, 800, other.now()) == 700


@given(
    st.lists(
        st.tuples(st.floats(0.0, 90.0), st.integers(0, 2**40), st.floats(0.0, 1.0)), max_size=40
    )
)
def test_a_window_holds_all_of_the_last_minute_and_nothing_of_a_slot_before(
    steps: list[tuple[float, int, float]],
) -> None:
    window = MinuteWindow(memoryview(bytearray(8 * CELLS)).cast("q"), 0)
    now, counted = 0.0, list[tuple[float, int]]()
    for passed, amount, settled in steps:
        now += passed
        slot = int(now / SLOT_SECONDS)
        window.move(slot)
        window.add(amount, slot)
        given_back = int(amount * settled)
        window.add(-given_back, slot)
        counted.append((now, amount - given_back))
        least = sum(amount for at, amount in counted if at > now - 60.0)
        most = sum(amount for at, amount in counted if at > now - 60.0 - SLOT_SECONDS)
        assert least <= window.total <= most


@given(st.lists(st.integers(0, 1000), min_size=SLOTS, max_size=SLOTS), st.integers(1, 40_000))
def test_who_waits_as_long_as_it_is_told_finds_room(amounts: list[int], freed: int) -> None:
    slots = slots_until(amounts, freed)
    assert 1 <= slots <= SLOTS
    assert sum(amounts[:slots]) >= min(freed, sum(amounts))
    assert slots == 1 or sum(amounts[: slots - 1]) < freed


def most_seen(path: Path, process: int, rounds: int, limit: int) -> tuple[int, int]:
    """The most requests that were seen in flight at once, and how many had a place."""
    meters, most, had = Meters(path, process=process, processes=3), 0, 0
    for number in range(rounds):
        _ = meters.of(f"unit-{number % 7}").requests  # rows are made by all at once
        meter = meters.of("support")
        meter.hold_requests(1)
        if (seen := meter.requests) <= limit:
            had += 1
            most = max(most, seen)
        meter.hold_requests(-1)
    return most, had


def test_processes_at_once_make_one_row_an_account_and_leave_no_count_behind(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        ended = [pool.submit(most_seen, path, process, 2000, 3) for process in (1, 2)]
        assert all(one.result()[1] > 0 for one in ended)
    meters = Meters(path, processes=3)
    assert meters.of("support").requests == 0
    rows = {meters.of(name)._row for name in ("support", *(f"unit-{n}" for n in range(7)))}
    spaces = {row - min(rows) for row in rows}
    assert max(spaces) == (len(rows) - 1) * meters._row_cells, "an account has two rows"
    meters.close()


def test_the_file_has_all_its_room_from_the_start_for_a_full_disk_kills_who_writes_without(
    path: Path,
) -> None:
    meters = Meters(path)
    assert path.stat().st_blocks * 512 >= path.stat().st_size > MAX_ACCOUNTS
    meters.close()
