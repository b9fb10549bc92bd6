"""Blocking calls of requests: whoever is stuck keeps no other from its turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from adapters.domain.names import Unit
from adapters.domain.principals import SYSTEM, Principal, Role
from service.request_threads import COMMANDS, OF_ONE_OWNER, RequestThreads

SUPPORT = Principal(id="one", role=Role.UNIT, unit=Unit("support"))
SALES = Principal(id="two", role=Role.UNIT, unit=Unit("sales"))
ROLE_LIKE = Principal(id="three", role=Role.UNIT, unit=Unit("system"))


class Stuck:
    """A call that ends when told, and how many are in it."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.inside = threading.Semaphore(0)
        self.entered = 0

    def __call__(self) -> None:
        self.entered += 1
        self.inside.release()
        assert self.free.wait(30.0)

    async def wait_inside(self) -> None:
        assert await asyncio.to_thread(self.inside.acquire, timeout=30.0)


@pytest.fixture
def threads() -> Iterator[RequestThreads]:
    threads = RequestThreads()
    yield threads
    threads.close()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    stuck = Stuck()
    yield stuck
    stuck.free.set()


async def test_an_owner_whose_commands_are_stuck_keeps_no_other_from_its_own(
    threads: RequestThreads, stuck: Stuck
) -> None:
    waiting = [asyncio.create_task(threads.command(SUPPORT, stuck)) for _ in range(2 * COMMANDS)]
    for _ in range(OF_ONE_OWNER):
        await stuck.wait_inside()
    async with asyncio.timeout(20.0):
        assert await threads.command(SALES, lambda: "done") == "done"
        assert await threads.read(SUPPORT, lambda: "read") == "read"
        assert await threads.file(SUPPORT, lambda: "file") == "file"
    assert stuck.entered == OF_ONE_OWNER
    stuck.free.set()
    await asyncio.gather(*waiting)
    assert stuck.entered == 2 * COMMANDS


async def test_whoever_waits_no_longer_gives_its_place_back_when_its_call_has_ended(
    threads: RequestThreads, stuck: Stuck
) -> None:
    waiting = [asyncio.create_task(threads.command(SUPPORT, stuck)) for _ in range(OF_ONE_OWNER)]
    for _ in waiting:
        await stuck.wait_inside()
    for task in waiting:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    late = asyncio.create_task(threads.command(SUPPORT, lambda: "late"))
    await asyncio.sleep(0.05)
    assert not late.done()
    stuck.free.set()
    assert await late == "late"


async def test_a_unit_that_is_called_like_a_role_is_another_owner(
    threads: RequestThreads, stuck: Stuck
) -> None:
    waiting = [asyncio.create_task(threads.read(SYSTEM, stuck)) for _ in range(OF_ONE_OWNER)]
    for _ in waiting:
        await stuck.wait_inside()
    async with asyncio.timeout(20.0):
        assert await threads.read(ROLE_LIKE, lambda: "read") == "read"
    stuck.free.set()
    await asyncio.gather(*waiting)


async def test_what_a_call_raises_reaches_who_waits(threads: RequestThreads) -> None:
    def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await threads.read(SUPPORT, broken)
