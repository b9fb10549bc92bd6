"""Who is suspected of an engine's death, who is refused, and who is cleared."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import InvalidRequest, Rejected
from service.engine.quarantine import LOAD_DEATHS, LOOK_SECONDS, Quarantine
from service.engine.quarantine_record import (
    DEATHS,
    KEPT_SECONDS,
    MAX_IN_FLIGHT,
    MAX_SUSPECTS,
    QuarantineRecord,
    Suspect,
    after_death,
)

POISON, INNOCENT, OTHER = b"poison", b"innocent", b"other"


class Place:
    """A state folder's file, and the wall clock that everybody reads it by."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1_000_000.0
        self.alive = True

    @contextmanager
    def life(self, process: int = 0, *, turn: float = 60.0) -> Iterator[Quarantine]:
        """One engine's life, as one of its API processes sees it."""
        made = Quarantine(
            self.path,
            key=b"k" * 32,
            alive=lambda: self.alive,
            process=process,
            turn_seconds=turn,
            clock=lambda: self.now,
        )
        with closing(made):
            yield made

    def die(self) -> None:
        """What the supervisor does before it starts the next engine."""
        with self.record() as record:
            record.settle()

    @contextmanager
    def record(self) -> Iterator[QuarantineRecord]:
        with closing(QuarantineRecord(self.path, clock=lambda: self.now)) as record:
            yield record

    def deaths(self) -> list[int]:
        with self.record() as record:
            return [one.deaths for one in record.suspects()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "in-flight")


async def die_of(place: Place, *contents: bytes) -> None:
    """A life in which these are sent, in their turn where they must wait for one, and then death.

    A suspect whose turn does not come is not in flight.
    """
    with place.life() as life:
        for content in contents:
            flight = life.begin(content)
            if flight.suspected:
                await asyncio.wait_for(life.wait_for_turn(flight), 5)
    place.die()


def is_refused(life: Quarantine, content: bytes) -> bool:
    try:
        life.begin(content).end(answered=False)
    except InvalidRequest as error:
        return error.reason == "request_quarantined"
    return False


async def test_a_request_that_was_in_flight_at_two_deaths_is_refused(place: Place) -> None:
    await die_of(place, POISON)
    with place.life() as life:
        assert not is_refused(life, POISON)
    await die_of(place, POISON)
    with place.life() as life:
        assert is_refused(life, POISON)
        assert not is_refused(life, INNOCENT)


async def test_innocents_that_come_back_with_the_guilty_one_are_answered_and_cleared(
    place: Place,
) -> None:
    await die_of(place, INNOCENT, POISON, OTHER)
    with place.life() as life:
        flights = [life.begin(content) for content in (INNOCENT, POISON, OTHER)]
        assert all(flight.suspected for flight in flights)
        await life.wait_for_turn(flights[0])
        waiting = [asyncio.create_task(life.wait_for_turn(flight)) for flight in flights[1:]]
        await asyncio.sleep(0)
        flights[0].end(answered=True)
        await waiting[0]  # the poison's turn: it kills with no other suspect in flight
        waiting[1].cancel()
    place.die()
    with place.life() as life:
        assert is_refused(life, POISON)
        assert not life.begin(INNOCENT).suspected
        assert not is_refused(life, OTHER)
    assert place.deaths() == [2, 1]


async def test_the_same_request_many_times_at_one_death_counts_once(place: Place) -> None:
    await die_of(place, INNOCENT, INNOCENT, INNOCENT)
    assert place.deaths() == [1]


async def test_an_answered_request_is_no_suspect(place: Place) -> None:
    with place.life() as life:
        life.begin(INNOCENT).end(answered=True)
        life.begin(OTHER).end(answered=False)
    place.die()
    assert place.deaths() == []


async def test_a_process_that_outlives_its_engine_wipes_out_nothing_of_what_failed(
    place: Place,
) -> None:
    with place.life() as life:
        failed, done = life.begin(POISON), life.begin(INNOCENT)
        place.alive = False
        done.end(answered=True)
        failed.end(answered=False)
    place.die()
    place.alive = True
    with place.life() as life:
        assert life.begin(POISON).suspected
        assert not life.begin(INNOCENT).suspected


async def test_a_suspect_that_was_cut_off_by_its_client_stays_one(place: Place) -> None:
    await die_of(place, POISON)
    with place.life() as life:
        flight = life.begin(POISON)
        await life.wait_for_turn(flight)
        flight.end(answered=False)
        assert life.begin(POISON).suspected


async def test_turns_are_taken_across_processes(place: Place) -> None:
    await die_of(place, POISON, INNOCENT)
    with place.life(0) as one, place.life(1) as other:
        first, second = one.begin(INNOCENT), other.begin(POISON)
        await one.wait_for_turn(first)
        waiting = asyncio.create_task(other.wait_for_turn(second))
        await asyncio.sleep(3 * LOOK_SECONDS)
        assert not waiting.done()
        first.end(answered=True)
        await asyncio.wait_for(waiting, 5)
        assert not other.begin(INNOCENT).suspected, "cleared for every process"
        second.end(answered=False)


async def test_a_turn_ends_by_itself_so_that_a_long_answer_holds_nobody_up(
    place: Place,
) -> None:
    await die_of(place, POISON, INNOCENT)
    with place.life(turn=0.05) as life:
        long, short = life.begin(INNOCENT), life.begin(POISON)
        await life.wait_for_turn(long)
        await asyncio.wait_for(life.wait_for_turn(short), 5)
        long.end(answered=True)
        short.end(answered=True)
    assert place.deaths() == []


async def test_a_refusal_expires_at_the_time_it_names(place: Place) -> None:
    for _ in range(DEATHS):
        await die_of(place, POISON)
    with place.life() as life:
        with pytest.raises(InvalidRequest, match=r"refused until 14:46:40 UTC"):
            life.begin(POISON)
        place.now += KEPT_SECONDS
        assert not life.begin(POISON).suspected


async def test_a_cleared_request_is_let_through_by_processes_that_run(place: Place) -> None:
    for _ in range(DEATHS):
        await die_of(place, POISON)
    with place.life() as life, place.record() as record:
        assert is_refused(life, POISON)
        assert record.clear([one.id for one in record.suspects()]) == 1
        assert not life.begin(POISON).suspected
        assert record.clear() == 0


def test_a_version_whose_load_ended_three_engines_in_a_row_is_loaded_no_more(place: Place) -> None:
    def load(artifact: str, *, dies: bool = False) -> None:
        with place.life() as life, life.loading(artifact):
            place.alive = not dies
        if dies:
            place.die()
        place.alive = True

    for _ in range(LOAD_DEATHS - 1):
        load("a" * 64, dies=True)
    load("a" * 64)  # it did load once, so the deaths had other reasons
    for _ in range(LOAD_DEATHS):
        load("a" * 64, dies=True)
    with pytest.raises(Rejected, match="died each time"):
        load("a" * 64)
    load("b" * 64)
    place.now += KEPT_SECONDS
    load("a" * 64)


async def test_what_a_stop_cut_off_is_forgiven(place: Place) -> None:
    with place.life() as life:
        life.begin(INNOCENT)
    with place.record() as record:
        record.forgive()
    place.die()
    assert place.deaths() == []


def test_more_requests_than_are_recorded_are_let_through(place: Place) -> None:
    with place.life() as life:
        flights = [life.begin(b"%d" % number) for number in range(MAX_IN_FLIGHT + 5)]
        for flight in flights:
            flight.end(answered=True)
        assert life.begin(POISON).place is not None


def test_nothing_of_a_request_can_be_read_in_the_file(place: Place) -> None:
    with place.life() as life:
        life.begin(b"canary5417" * 10)
        assert b"canary5417" not in place.path.read_bytes()


_digests = st.sets(st.binary(min_size=16, max_size=16), max_size=8)


@given(st.lists(_digests, min_size=1, max_size=6))
def test_only_what_was_in_flight_at_two_deaths_is_ever_refused(deaths: list[set[bytes]]) -> None:
    suspects: tuple[Suspect, ...] = ()
    for number, in_flight in enumerate(deaths):
        suspects = after_death(suspects, in_flight, now=float(number))
    counted = {one.digest: one.deaths for one in suspects}
    every = [digest for in_flight in deaths for digest in in_flight]
    assert counted == {digest: every.count(digest) for digest in set(every)}


def test_where_there_are_too_many_the_worst_and_the_newest_are_kept() -> None:
    def digest(number: int) -> bytes:
        return number.to_bytes(16)

    old = after_death((), map(digest, range(1, MAX_SUSPECTS + 1)), now=0.0)
    new = after_death(old, [digest(1), digest(MAX_SUSPECTS + 7)], now=1.0)
    assert len(new) == MAX_SUSPECTS
    assert [one.digest for one in new[:2]] == [digest(1), digest(MAX_SUSPECTS + 7)]
    assert new[0].quarantined
    assert not new[1].quarantined
