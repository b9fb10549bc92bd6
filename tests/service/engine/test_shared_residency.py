"""What the API processes of one engine share: leases that hold against every process."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.domain.names import VersionId
from adapters.errors import EngineUnavailable
from service.engine.shared_residency import MAX_VERSION_ID, MAX_WAITING, Reason, SharedResidency

ONE, TWO = VersionId(1), VersionId(2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "engine"


@pytest.fixture
def loader(path: Path) -> Iterator[SharedResidency]:
    """The process that loads, with version 1 resident."""
    residency = SharedResidency(path)
    assert residency.own()
    residency.begin_load(ONE)
    residency.note_resident(ONE)
    yield residency
    residency.close()


@pytest.fixture
def other(path: Path, loader: SharedResidency) -> Iterator[SharedResidency]:
    """Another process of the same engine; the locks are as they are between two processes."""
    residency = SharedResidency(path, process=1)
    yield residency
    residency.close()


def test_a_version_that_any_process_holds_is_not_unloaded(
    loader: SharedResidency, other: SharedResidency
) -> None:
    for holder in (loader, other):
        assert holder.hold(ONE)
        assert loader.leased([ONE, TWO]) == {ONE}
        with loader.unused(ONE) as unused:
            assert not unused
        holder.drop(ONE)
        assert loader.leased([ONE, TWO]) == frozenset()


def test_nobody_takes_hold_of_what_is_being_unloaded_or_was(
    loader: SharedResidency, other: SharedResidency
) -> None:
    with loader.unused(ONE) as unused:
        assert unused
        assert not other.hold(ONE)
        assert not loader.hold(ONE)
        loader.begin_unload(ONE)
    assert not other.hold(ONE)
    loader.note_unloaded(ONE)
    assert loader.leased([ONE]) == frozenset(), "a refused hold left its lock behind"
    assert other.resident() == frozenset()


def test_two_processes_hold_one_version_and_the_last_to_drop_it_lets_it_go(
    loader: SharedResidency, other: SharedResidency
) -> None:
    assert loader.hold(ONE)
    assert other.hold(ONE)
    loader.drop(ONE)
    assert loader.leased([ONE]) == {ONE}
    other.drop(ONE)
    assert loader.leased([ONE]) == frozenset()


def hold_and_wait(path: Path, ready: multiprocessing.connection.Connection) -> None:
    residency = SharedResidency(path, process=1)
    ready.send(residency.hold(ONE))
    signal.pause()


def test_the_leases_of_a_killed_process_are_gone(path: Path, loader: SharedResidency) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold_and_wait, args=(path, theirs))
    process.start()
    try:
        assert ours.recv() is True
        assert loader.leased([ONE]) == {ONE}
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)
        assert loader.leased([ONE]) == frozenset()
    finally:
        process.kill()
        process.join(10)
        ours.close()
        theirs.close()


def test_one_process_is_the_loader_and_its_end_makes_room_for_another(path: Path) -> None:
    first, second = SharedResidency(path), SharedResidency(path, process=1)
    assert (first.own(), second.own(), first.own()) == (True, False, True)
    first.begin_load(TWO)
    first.close()
    assert second.own()
    assert second.left_behind() == {TWO}
    second.note_unloaded(TWO)
    assert second.left_behind() == frozenset()
    second.close()


def test_what_one_process_waits_for_all_see_until_it_withdraws(
    loader: SharedResidency, other: SharedResidency
) -> None:
    other.ask(TWO)
    other.ask(TWO)
    loader.ask(ONE)
    assert loader.asked() == other.asked() == {ONE, TWO}
    other.withdraw(TWO)
    assert loader.asked() == {ONE}


def test_a_process_waits_for_a_bounded_number_of_versions(loader: SharedResidency) -> None:
    for number in range(1, MAX_WAITING + 1):
        loader.ask(VersionId(number))
    with pytest.raises(EngineUnavailable):
        loader.ask(VersionId(MAX_WAITING + 1))


def test_a_failure_and_its_reason_are_seen_by_all_until_the_version_is_resident(
    loader: SharedResidency, other: SharedResidency
) -> None:
    for reason in Reason:
        loader.note_failed(TWO, reason)
        failure = other.failure(TWO)
        assert failure is not None
        assert failure.reason is reason
    loader.begin_load(TWO)
    loader.note_resident(TWO)
    assert other.failure(TWO) is None
    assert other.resident() == {ONE, TWO}


def test_a_use_in_one_process_counts_for_all(
    loader: SharedResidency, other: SharedResidency
) -> None:
    assert loader.last_use(ONE) == 0.0
    other.note_use(ONE)
    assert loader.last_use(ONE) > 0.0


def test_the_file_has_all_its_room_from_the_start_for_a_full_disk_kills_who_writes_without(
    path: Path, loader: SharedResidency
) -> None:
    assert path.stat().st_blocks * 512 >= path.stat().st_size > MAX_VERSION_ID * 18
    loader.note_use(VersionId(MAX_VERSION_ID - 1))
    with pytest.raises(EngineUnavailable):
        loader.note_use(VersionId(MAX_VERSION_ID))
