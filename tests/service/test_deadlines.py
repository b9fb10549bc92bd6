"""Waits that end in time, with one timer for all of them."""

from __future__ import annotations

import asyncio

import pytest

from service.deadlines import Deadlines


class Waiting:
    """Tasks that wait for nothing, each until its own deadline."""

    def __init__(self) -> None:
        self.deadlines = Deadlines()
        self.now = asyncio.get_running_loop().time()
        self.ended: list[str] = []

    async def wait(self, name: str, seconds: float) -> None:
        try:
            with self.deadlines.until(self.now + seconds):
                await asyncio.Event().wait()
        except TimeoutError:
            self.ended.append(name)


async def test_each_wait_ends_at_its_own_time_whichever_began_first() -> None:
    waiting = Waiting()
    await asyncio.gather(
        waiting.wait("second", 0.02), waiting.wait("first", 0.01), waiting.wait("third", 0.03)
    )
    assert waiting.ended == ["first", "second", "third"]


async def test_a_wait_that_is_over_leaves_the_task_alone() -> None:
    deadlines = Deadlines()
    now = asyncio.get_running_loop().time()
    with deadlines.until(now + 0.01):
        pass
    # the timer rings for the first one, too
    with pytest.raises(TimeoutError), deadlines.until(now + 0.02):
        await asyncio.Event().wait()
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()


async def test_a_cancellation_of_somebody_elses_stays_one() -> None:
    waiting = Waiting()
    task = asyncio.create_task(waiting.wait("it", 60.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waiting.ended == []


async def test_what_the_body_raises_comes_out() -> None:
    later = Deadlines().until(asyncio.get_running_loop().time() + 60.0)
    with pytest.raises(ValueError, match="mine"), later:
        raise ValueError("mine")
