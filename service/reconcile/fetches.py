"""Fetches versions' files beside the loader, so that a slow or stuck one holds up no other load.

On threads of its own: neither a busy default pool nor the registry's calls delay it. A fetch that
is late counts as failed, but goes on: whoever asks for the version again joins it, so that a stuck
storage costs one thread a version, whatever the number of tries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from adapters.domain.names import Digest, VersionId
from adapters.domain.versions import ServedVersion

FETCH_SECONDS = 60.0
FETCHES = 4
"""Versions fetched at once."""
TURN_SECONDS = 0.25
"""How long the most wanted version is waited for before one behind it is loaded."""
_THREADS = 2 * FETCHES

T = TypeVar("T")


class Artifacts(Protocol):
    """What the loader needs of the artifact store."""

    def fetch(self, digest: Digest) -> Path:
        """A local directory, verified. Raises NotFound, Rejected, StorageFull, Unavailable."""
        ...

    def pin(self, digest: Digest) -> None:
        """Keeps the local directory."""
        ...

    def release(self, digest: Digest) -> None:
        """Takes `pin` back."""
        ...


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """One fetch; its files are pinned once it is done."""

    digest: Digest
    began: float
    """`time.perf_counter` then."""
    path: asyncio.Future[Path]


class Fetches:
    """What is being fetched, and what is pinned for the engine. On the event loop only."""

    def __init__(
        self,
        artifacts: Artifacts,
        *,
        on_fetched: Callable[[], None],
        seconds: float = FETCH_SECONDS,
    ) -> None:
        """A fetch is late after `seconds`."""
        self._artifacts = artifacts
        self._seconds = seconds
        self._on_fetched = on_fetched
        self._under_way: dict[VersionId, Fetch] = {}
        self._pinned: dict[VersionId, Digest] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="artifacts")

    async def first(self, wanted: Sequence[ServedVersion]) -> ServedVersion | None:
        """The most wanted version whose fetch has ended, well or badly; begins the others' too.

        None where none has: `on_fetched` says when to ask again.
        """
        await self._give_up({version.id for version in wanted})
        chosen = wanted[:FETCHES]
        for version in chosen:
            if version.id not in self._under_way:
                self._under_way[version.id] = self._begin(version.digest)
        if chosen:
            await asyncio.wait({self._under_way[chosen[0].id].path}, timeout=TURN_SECONDS)
        return next((version for version in chosen if self._has_ended(version)), None)

    def _has_ended(self, version: ServedVersion) -> bool:
        fetch = self._under_way[version.id]
        return fetch.path.done() or time.perf_counter() - fetch.began > self._seconds

    def take(self, version: ServedVersion) -> Fetch:
        """What `first` said, pinned from here on. Raises what fetching raised, TimeoutError."""
        fetch = self._under_way[version.id]
        if not fetch.path.done():
            raise TimeoutError
        del self._under_way[version.id]
        fetch.path.result()
        self._pinned[version.id] = fetch.digest
        return fetch

    async def path(self, version: ServedVersion) -> Path:
        """The files of what the engine holds already. Raises what fetching raises, TimeoutError."""
        async with asyncio.timeout(self._seconds):
            return await self._run(self._artifacts.fetch, version.digest)

    async def pin(self, version: ServedVersion) -> None:
        """Keeps the files: the engine may read them again at any step while it holds a version."""
        if version.id not in self._pinned:
            await self._run(self._artifacts.pin, version.digest)
            self._pinned[version.id] = version.digest

    async def release(self, version_id: VersionId) -> None:
        """The engine does not hold it any more."""
        digest = self._pinned.pop(version_id, None)
        if digest is not None:
            await self._run(self._artifacts.release, digest)

    def close(self) -> None:
        """Waits for nothing; the pins end with the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _give_up(self, wanted: set[VersionId]) -> None:
        """Lets go of what was fetched and is not wanted any more; what is under way goes on."""
        for version_id, fetch in list(self._under_way.items()):
            if version_id in wanted or not fetch.path.done():
                continue
            del self._under_way[version_id]
            if fetch.path.exception() is None:
                await self._run(self._artifacts.release, fetch.digest)

    def _begin(self, digest: Digest) -> Fetch:
        path = asyncio.ensure_future(self._run(self._pinned_path, digest))
        path.add_done_callback(self._note_end)
        return Fetch(digest=digest, began=time.perf_counter(), path=path)

    def _note_end(self, path: asyncio.Future[Path]) -> None:
        if not path.cancelled():
            path.exception()  # nobody may ask any more
            self._on_fetched()

    def _pinned_path(self, digest: Digest) -> Path:
        """Pins first: what is not pinned may be evicted at any time. Blocks."""
        self._artifacts.pin(digest)
        try:
            return self._artifacts.fetch(digest)
        except BaseException:
            self._artifacts.release(digest)
            raise

    async def _run(self, call: Callable[[Digest], T], digest: Digest) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, digest)
