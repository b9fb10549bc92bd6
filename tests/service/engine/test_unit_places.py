"""A unit's requests are counted for its limit in all API processes of one engine together."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.errors import RateLimited
from service.engine.unit_places import MAX_UNITS, UnitPlaces


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "places"


@pytest.fixture
def first(path: Path) -> Iterator[UnitPlaces]:
    """One process's view."""
    places = UnitPlaces(path)
    yield places
    places.close()


@pytest.fixture
def second(path: Path) -> Iterator[UnitPlaces]:
    """Another process's view of the same engine."""
    places = UnitPlaces(path, process=1)
    yield places
    places.close()


def test_a_place_counts_for_its_unit_and_refuses_what_is_over_the_limit(first: UnitPlaces) -> None:
    with first.take("support", 2), first.take("support", 2):
        assert first.of("support") == 2
        with pytest.raises(RateLimited), first.take("support", 2):
            pass
        with first.take("hr", 2):
            pass
    assert first.of("support") == 0


def test_the_places_of_every_process_count(first: UnitPlaces, second: UnitPlaces) -> None:
    with first.take("hr", 2), second.take("support", 2):
        with first.take("support", 2):
            assert first.of("support") == second.of("support") == 2
            for places in (first, second):
                with pytest.raises(RateLimited), places.take("support", 2):
                    pass
        with second.take("support", 2):
            pass
    assert [places.of(unit) for places in (first, second) for unit in ("support", "hr")] == [0] * 4


def test_a_place_is_given_back_however_the_body_ends(first: UnitPlaces) -> None:
    with pytest.raises(RuntimeError), first.take("support", 1):
        raise RuntimeError
    assert first.of("support") == 0


def most_seen(path: Path, process: int, rounds: int, limit: int) -> tuple[int, int]:
    """The most requests that were seen in flight at once, and how many had a place."""
    places, most, had = UnitPlaces(path, process=process), 0, 0
    for number in range(rounds):
        places.of(f"unit-{number % 7}")  # rows are made by all at once
        try:
            with places.take("support", limit), places.take("support", limit):
                had += 1
                # at the limit this process is among those that have a place
                most = max(most, places.of("support") if limit == rounds else 2)
        except RateLimited:
            continue
    return most, had


def test_processes_at_once_make_one_row_a_unit_and_leave_no_count_behind(
    path: Path, first: UnitPlaces
) -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        ended = [pool.submit(most_seen, path, process, 2000, 3) for process in (1, 2)]
        assert all(one.result()[1] > 0 for one in ended)
    assert first.of("support") == 0
    rows = {first._row(unit) for unit in ("support", *(f"unit-{n}" for n in range(7)))}
    assert max(rows) // min(row for row in rows if row) == len(rows) - 1, "a unit has two rows"


def test_the_file_has_all_its_room_from_the_start_for_a_full_disk_kills_who_writes_without(
    path: Path, first: UnitPlaces
) -> None:
    assert path.stat().st_blocks * 512 >= path.stat().st_size > MAX_UNITS
