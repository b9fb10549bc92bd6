"""What the supervisor and its engine tell each other, across processes where it matters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service.engine.vital_signs import (
    FIRST_ESTIMATE,
    LEAST_WAIT,
    LONGEST_WAIT,
    RestartReason,
    VitalSigns,
)
from tests.clock import Clock


@pytest.fixture
def signs(tmp_path: Path, clock: Clock) -> Iterator[VitalSigns]:
    with closing(VitalSigns(tmp_path / "signs", clock=clock)) as made:
        made.begin()
        yield made


def start(signs: VitalSigns, clock: Clock, *, taking: float) -> None:
    signs.note_start()
    clock.now += taking
    signs.note_ready()


def test_without_a_measured_start_a_careful_guess_is_told(signs: VitalSigns) -> None:
    assert signs.seconds_left() == FIRST_ESTIMATE


def test_the_wait_told_is_what_starts_took_less_what_has_passed(
    signs: VitalSigns, clock: Clock
) -> None:
    for taking in (30.0, 50.0, 40.0):
        start(signs, clock, taking=taking)
    signs.note_end(RestartReason.SIGNAL, was_ready=True, delay=4.0)
    assert signs.seconds_left() == 44
    clock.now += 4.0
    signs.note_start()
    clock.now += 15.0
    assert signs.seconds_left() == 25


def test_who_is_late_is_given_as_much_again_and_never_more_than_a_client_waits(
    signs: VitalSigns, clock: Clock
) -> None:
    start(signs, clock, taking=40.0)
    signs.note_end(RestartReason.EXIT, was_ready=True, delay=0.0)
    clock.now += 40.0
    assert signs.seconds_left() == LEAST_WAIT
    clock.now += 12.0
    assert signs.seconds_left() == 12
    clock.now += 5000.0
    assert signs.seconds_left() == LONGEST_WAIT


def test_restarts_are_counted_by_reason_and_read_by_another_process(
    signs: VitalSigns, tmp_path: Path
) -> None:
    signs.note_end(RestartReason.SIGNAL, was_ready=True, delay=1.0)
    signs.note_end(RestartReason.SIGNAL, was_ready=True, delay=1.0)
    signs.note_end(RestartReason.UNRESPONSIVE, was_ready=True, delay=1.0)
    with closing(VitalSigns(tmp_path / "signs")) as read:
        assert read.restarts == {"exit": 0, "signal": 2, "out_of_memory": 0, "unresponsive": 1}


def test_a_new_supervisor_counts_from_zero_and_still_knows_how_long_a_start_takes(
    signs: VitalSigns, tmp_path: Path, clock: Clock
) -> None:
    start(signs, clock, taking=33.0)
    signs.note_end(RestartReason.EXIT, was_ready=False, delay=1.0)
    signs.note_core()
    with closing(VitalSigns(tmp_path / "signs", clock=clock)) as second:
        second.begin()
        assert not any(second.restarts.values())
        assert (second.failed_starts, second.silence) == (0, 0.0)
        assert second.estimate() == 33.0


def test_starts_that_fail_in_a_row_are_counted_until_one_is_ready(
    signs: VitalSigns, clock: Clock
) -> None:
    for _ in range(3):
        signs.note_start()
        signs.note_end(RestartReason.EXIT, was_ready=False, delay=1.0)
    assert signs.failed_starts == 3
    start(signs, clock, taking=1.0)
    assert signs.failed_starts == 0


def test_the_silence_is_of_whoever_was_not_heard_longest_and_nobody_is_silent_before_a_word(
    signs: VitalSigns, clock: Clock
) -> None:
    signs.note_start()
    clock.now += 500.0
    assert signs.silence == 0.0
    signs.note_core()
    signs.note_loop(0)
    clock.now += 20.0
    signs.note_loop(0)
    signs.note_loop(1)
    assert signs.silence == 20.0
    signs.note_core()
    assert signs.silence == 0.0
    clock.now += 7.0
    signs.note_start()
    assert signs.silence == 0.0


ACCEPTS = """
import sys, time
from pathlib import Path
from service.engine.vital_signs import VitalSigns
from tests.clock import Clock
signs = VitalSigns(Path(sys.argv[1]))
signs.accept()
print("accepting", flush=True)
time.sleep(600)
"""


def test_a_killed_process_accepts_no_more_while_another_still_does(
    signs: VitalSigns, tmp_path: Path
) -> None:
    def accepting() -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", ACCEPTS, str(tmp_path / "signs")]
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        return process

    assert not signs.accepting
    processes = [accepting(), accepting()]
    seen = []
    for process in processes:
        seen.append(signs.accepting)
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()
    assert seen == [True, True]
    assert not signs.accepting


def test_who_ceases_to_accept_says_so_at_once(tmp_path: Path, signs: VitalSigns) -> None:
    with closing(VitalSigns(tmp_path / "signs")) as api:
        api.accept()
        assert signs.accepting
        api.cease()
        assert not signs.accepting
