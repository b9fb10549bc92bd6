"""Bounded waits: how often they ask, and what they raise in the end."""

from __future__ import annotations

import pytest

from adapters.waiting import retry, wait_until


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_condition_is_asked_at_least_once_and_no_longer_than_allowed() -> None:
    assert wait_until(lambda: True, seconds=0.0, every=0.0)
    assert not wait_until(lambda: False, seconds=0.0, every=0.0)


def test_the_last_error_is_raised_when_time_is_over() -> None:
    clock, tries = Clock(), []

    def attempt() -> None:
        tries.append(clock.now)
        raise KeyError(len(tries))

    with pytest.raises(KeyError, match="3"):
        retry(attempt, KeyError, seconds=2.0, every=1.0, sleep=clock.sleep, monotonic=clock)
    assert tries == [0.0, 1.0, 2.0]


def test_another_error_is_not_waited_for() -> None:
    clock = Clock()
    with pytest.raises(ZeroDivisionError):
        retry(lambda: 1 // 0, KeyError, seconds=9.0, every=1.0, sleep=clock.sleep, monotonic=clock)
    assert clock.now == 0.0
