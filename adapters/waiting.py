"""Bounded waits by asking again: for a condition, or for an attempt that succeeds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


def wait_until(done: Callable[[], bool], *, seconds: float, every: float) -> bool:
    """Asks `done` until it says True, for so long; whether it did. It is asked at least once."""
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= until:
            return False
        time.sleep(every)
    return True


def retry(
    attempt: Callable[[], _Result],
    on: type[Exception],
    *,
    seconds: float,
    every: float,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> _Result:
    """Repeats `attempt` while it raises `on`. Raises the last such error when time is over."""
    until = monotonic() + seconds
    while True:
        try:
            return attempt()
        except on:
            if monotonic() >= until:
                raise
        sleep(every)
