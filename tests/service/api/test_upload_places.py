"""Uploads in flight are bounded; who comes late waits, so many and so long."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

from adapters.errors import RateLimited
from service.api.upload_places import MAX_OF_ONE_OWNER, MAX_WAITING, Uploads


async def hold(uploads: Uploads, owner: str, go_on: asyncio.Event) -> None:
    async with uploads.place(owner):
        await go_on.wait()


async def test_one_owners_uploads_leave_room_for_anothers() -> None:
    uploads = Uploads()
    async with AsyncExitStack() as held:
        for _ in range(MAX_OF_ONE_OWNER):
            await held.enter_async_context(uploads.place("support"))
        async with asyncio.timeout(1), uploads.place("sales"):
            pass


async def test_slow_uploads_of_two_owners_leave_room_for_a_third_and_a_fourth() -> None:
    uploads = Uploads(patience=0.05)
    async with AsyncExitStack() as held:
        for owner in ("support", "sales"):
            with suppress(RateLimited):
                for _ in range(MAX_OF_ONE_OWNER):
                    await held.enter_async_context(uploads.place(owner))
        for owner in ("hr", "legal"):
            await held.enter_async_context(uploads.place(owner))
        with pytest.raises(RateLimited):
            await held.enter_async_context(uploads.place("hr"))


async def test_who_waits_too_long_is_told_to_come_again() -> None:
    uploads = Uploads(patience=0.05)
    async with AsyncExitStack() as held:
        for _ in range(MAX_OF_ONE_OWNER):
            await held.enter_async_context(uploads.place("support"))
        with pytest.raises(RateLimited):
            await held.enter_async_context(uploads.place("support"))
    async with asyncio.timeout(1), uploads.place("support"):
        pass


async def test_so_many_wait_and_no_more_and_all_of_them_come_in_the_end() -> None:
    uploads, go_on = Uploads(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(MAX_OF_ONE_OWNER + MAX_WAITING):
            tasks.create_task(hold(uploads, "support", go_on))
        await asyncio.sleep(0.05)
        with pytest.raises(RateLimited):
            async with uploads.place("support"):
                pass
        go_on.set()


async def test_who_gives_up_waiting_takes_no_place() -> None:
    uploads, go_on = Uploads(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(MAX_OF_ONE_OWNER):
            tasks.create_task(hold(uploads, "support", go_on))
        await asyncio.sleep(0)
        for _ in range(MAX_WAITING):
            waiting = asyncio.create_task(hold(uploads, "support", go_on))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        go_on.set()
    async with asyncio.timeout(1), uploads.place("support"):
        pass
