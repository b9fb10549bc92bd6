"""Fetches: a slow or stuck storage holds up nothing but the versions that lie in it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.domain.names import Digest, Unit, VersionId
from adapters.domain.versions import ServedVersion
from adapters.errors import Unavailable
from service.reconcile.fetches import FETCHES, Fetches


class Storage:
    """A store some of whose artifacts do not come before they are let go, or not at all."""

    def __init__(self) -> None:
        self.stuck: set[Digest] = set()
        self.failing: set[Digest] = set()
        self.let_go = threading.Event()
        self.fetched: Counter[Digest] = Counter()
        self.pins: Counter[Digest] = Counter()

    def fetch(self, digest: Digest) -> Path:
        self.fetched[digest] += 1
        if digest in self.stuck:
            self.let_go.wait(30)
        if digest in self.failing:
            raise Unavailable("the object storage does not answer")
        return Path("/artifacts") / digest

    def pin(self, digest: Digest) -> None:
        self.pins[digest] += 1

    def release(self, digest: Digest) -> None:
        self.pins[digest] -= 1


def a_version(number: int) -> ServedVersion:
    return ServedVersion(
        id=VersionId(number),
        adapter="support",
        number=number,
        unit=Unit("support"),
        digest=Digest(f"{number:064x}"),
        base_fingerprint=Digest("b" * 64),
        created_at=0.0,
        servable=True,
    )


@pytest.fixture
def storage() -> Iterator[Storage]:
    made = Storage()
    yield made
    made.let_go.set()


async def test_a_stuck_fetch_holds_up_no_version_behind_it(storage: Storage) -> None:
    fetches = Fetches(storage, on_fetched=lambda: None)
    stuck, other = a_version(1), a_version(2)
    storage.stuck.add(stuck.digest)
    assert await fetches.first([stuck, other]) == other
    assert (await fetches.take(other).path).name == other.digest
    fetches.close()


async def test_a_late_fetch_has_failed_and_is_joined_by_the_next_try(storage: Storage) -> None:
    ended = asyncio.Event()
    fetches = Fetches(storage, on_fetched=ended.set, seconds=0.0)
    stuck = a_version(1)
    storage.stuck.add(stuck.digest)
    for _ in range(3):
        assert await fetches.first([stuck]) == stuck
        with pytest.raises(TimeoutError):
            fetches.take(stuck)
    assert storage.fetched[stuck.digest] == 1, "each try costs a thread for as long as it is stuck"
    storage.let_go.set()
    await ended.wait()
    assert await fetches.first([stuck]) == stuck
    assert fetches.take(stuck).path.done()
    assert storage.fetched[stuck.digest] == 1
    fetches.close()


async def test_what_was_fetched_and_is_not_wanted_any_more_is_not_kept(storage: Storage) -> None:
    ended = asyncio.Event()
    fetches = Fetches(storage, on_fetched=ended.set)
    wanted, dropped, failed = a_version(1), a_version(2), a_version(3)
    storage.failing.add(failed.digest)
    assert await fetches.first([wanted, dropped, failed]) == wanted
    fetches.take(wanted)
    while await fetches.first([dropped]) is None or storage.fetched[failed.digest] == 0:
        await ended.wait()
    await asyncio.sleep(0.05)
    assert await fetches.first([]) is None
    assert +storage.pins == {wanted.digest: 1}
    await fetches.release(wanted.id)
    assert +storage.pins == {}
    fetches.close()


async def test_a_busy_default_pool_delays_no_fetch(storage: Storage) -> None:
    fetches = Fetches(storage, on_fetched=lambda: None)
    writers = [asyncio.create_task(asyncio.to_thread(storage.let_go.wait, 30)) for _ in range(64)]
    await asyncio.sleep(0.01)
    began = time.monotonic()
    while await fetches.first([a_version(1)]) is None:
        assert time.monotonic() - began < 10, "behind the registry's calls of other requests"
    storage.let_go.set()
    await asyncio.gather(*writers)
    fetches.close()


async def test_more_stuck_fetches_than_run_at_once_do_not_begin(storage: Storage) -> None:
    fetches = Fetches(storage, on_fetched=lambda: None)
    versions = [a_version(number) for number in range(1, FETCHES + 3)]
    storage.stuck |= {version.digest for version in versions}
    assert await fetches.first(versions) is None
    assert storage.fetched.total() == FETCHES
    fetches.close()
