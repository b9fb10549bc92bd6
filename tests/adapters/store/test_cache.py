"""The cache of directories: bounded, shared by processes, and never torn."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.admission.manifest import verify
from adapters.domain.names import Digest
from adapters.errors import NotFound, Rejected, StorageFull
from adapters.store.cache import DirectoryCache
from tests.adapters.store.sources import Shelf
from tests.adapters.tracing import traced

ROOM_FOR_THREE = 3 * 1200


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "shelf").mkdir()
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def cached(folder: Path) -> set[str]:
    return {path.name for path in (folder / "entries").iterdir()}


def staged(folder: Path) -> list[Path]:
    return list((folder / "staging").iterdir())


def fetched(cache: DirectoryCache, shelf: Shelf, *digests: Digest) -> None:
    for number, digest in enumerate(digests):
        path = cache.fetch(digest, shelf)
        # uses a second apart, whatever the clock of the file system can tell
        os.utime(path, (1e9 + number, 1e9 + number))


def test_a_cached_directory_is_downloaded_once_also_for_the_next_process(
    folder: Path, shelf: Shelf
) -> None:
    digest = shelf.add(1000)
    path = DirectoryCache(folder, max_bytes=ROOM_FOR_THREE).fetch(digest, shelf)
    assert path.is_absolute()
    for _ in range(2):
        again = DirectoryCache(folder, max_bytes=ROOM_FOR_THREE)
        assert again.fetch(digest, shelf) == path
    verify(path, digest)
    assert shelf.downloads == [digest]
    assert staged(folder) == []


def test_the_longest_unused_goes_first(folder: Path, shelf: Shelf) -> None:
    cache = DirectoryCache(folder, max_bytes=ROOM_FOR_THREE)
    first, second, third, fourth = (shelf.add(1000) for _ in range(4))
    fetched(cache, shelf, first, second, third)
    cache.fetch(first, shelf)
    cache.fetch(fourth, shelf)
    assert cached(folder) == {first, third, fourth}


def test_what_is_given_back_was_used_until_then(folder: Path, shelf: Shelf) -> None:
    cache = DirectoryCache(folder, max_bytes=ROOM_FOR_THREE)
    first, second, third, fourth = (shelf.add(1000) for _ in range(4))
    cache.pin(first)
    fetched(cache, shelf, first, second, third)
    cache.release(first)
    cache.fetch(fourth, shelf)
    assert cached(folder) == {first, third, fourth}


def test_what_is_pinned_stays_and_the_one_without_room_fails_alone(
    folder: Path, shelf: Shelf
) -> None:
    cache = DirectoryCache(folder, max_bytes=ROOM_FOR_THREE)
    pinned = [shelf.add(1000) for _ in range(3)]
    for digest in pinned:
        cache.pin(digest)
        cache.fetch(digest, shelf)
    late = shelf.add(1000)
    with pytest.raises(StorageFull) as raised:
        cache.fetch(late, shelf)
    assert raised.value.reason == "artifact_cache_full"
    assert cached(folder) == set(pinned)
    for digest in pinned:
        cache.fetch(digest, shelf)
    cache.pin(pinned[0])
    cache.release(pinned[0])
    with pytest.raises(StorageFull):
        cache.fetch(late, shelf)
    cache.release(pinned[0])
    cache.fetch(late, shelf)
    assert cached(folder) == {*pinned[1:], late}


def test_what_could_never_fit_evicts_nothing(folder: Path, shelf: Shelf) -> None:
    cache = DirectoryCache(folder, max_bytes=ROOM_FOR_THREE)
    small, large = shelf.add(1000), shelf.add(9000)
    cache.fetch(small, shelf)
    with pytest.raises(StorageFull):
        cache.fetch(large, shelf)
    assert cached(folder) == {small}
    assert shelf.downloads == [small]


PINS = """
import sys
from pathlib import Path
from adapters.store.pins import Pins
Pins(Path(sys.argv[1])).pin(sys.argv[2])
print("pinned", flush=True)
sys.stdin.read()
"""


@contextmanager
def pinned_elsewhere(folder: Path, digest: Digest) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PINS, str(folder / "pins"), digest]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "pinned\n"
        yield other
        other.kill()


def test_what_another_process_uses_stays_until_that_process_has_died(
    folder: Path, shelf: Shelf
) -> None:
    cache = DirectoryCache(folder, max_bytes=1200)
    used, wanted = shelf.add(1000), shelf.add(1000)
    with pinned_elsewhere(folder, used) as other:
        cache.fetch(used, shelf)
        with pytest.raises(StorageFull):
            cache.fetch(wanted, shelf)
        # Its own use begins and ends while the other's goes on.
        cache.pin(used)
        cache.release(used)
        with pytest.raises(StorageFull):
            cache.fetch(wanted, shelf)
        other.send_signal(signal.SIGKILL)
        other.wait(10.0)
        cache.fetch(wanted, shelf)
    assert cached(folder) == {wanted}
    assert list((folder / "pins").iterdir()) == []


def test_many_who_want_the_same_download_it_once(folder: Path, shelf: Shelf) -> None:
    digest = shelf.add(100_000)
    caches = [DirectoryCache(folder, max_bytes=None) for _ in range(8)]
    shelf.open.clear()
    with ThreadPoolExecutor(8) as pool:
        paths = [pool.submit(cache.fetch, digest, shelf) for cache in caches]
        shelf.open.set()
        assert {path.result(30.0) for path in paths} == {folder / "entries" / digest}
    assert shelf.downloads == [digest]


def test_a_slow_download_holds_up_nobody_else_and_keeps_its_room(
    folder: Path, shelf: Shelf
) -> None:
    cache = DirectoryCache(folder, max_bytes=ROOM_FOR_THREE)
    ready, slow = shelf.add(1000), shelf.add(2000)
    cache.fetch(ready, shelf)
    shelf.open.clear()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(cache.fetch, slow, shelf)
        while shelf.downloads[-1] != slow:
            threading.Event().wait(0.01)
        assert cache.fetch(ready, shelf)
        cache.pin(ready)
        with pytest.raises(StorageFull):
            cache.fetch(shelf.add(1000), shelf)
        shelf.open.set()
        verify(coming.result(30.0), slow)


def test_many_processes_worth_of_use_never_see_a_torn_directory(folder: Path, shelf: Shelf) -> None:
    digests = [shelf.add(1000) for _ in range(6)]

    def use(seed: int) -> int:
        cache, chance = DirectoryCache(folder, max_bytes=3 * ROOM_FOR_THREE), random.Random(seed)
        for _ in range(40):
            digest = chance.choice(digests)
            cache.pin(digest)
            try:
                verify(cache.fetch(digest, shelf), digest)
            finally:
                cache.release(digest)
        return 40

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(use, range(6))) == 240
    assert staged(folder) == []
    assert list((folder / "pins").iterdir()) == []
    assert list((folder / "downloads").iterdir()) == []


def test_a_damaged_directory_in_use_is_mended_file_by_file(folder: Path, shelf: Shelf) -> None:
    cache = DirectoryCache(folder, max_bytes=None)
    digest = shelf.add(1000)
    cache.pin(digest)
    path = cache.fetch(digest, shelf)
    inode = path.stat().st_ino
    path.chmod(0o700)
    (path / "weights").chmod(0o600)
    (path / "weights").write_bytes(b"torn by a power cut")
    (path / "stray").write_text("x")
    verify(cache.fetch(digest, shelf), digest)
    assert path.stat().st_ino == inode
    (path / "weights").chmod(0o600)
    with (path / "weights").open("r+b") as file:
        file.write(b"?")
    verify(DirectoryCache(folder, max_bytes=None).fetch(digest, shelf), digest)


class Bent(Shelf):
    """Gives other bytes than the manifest says."""

    def download(self, digest: Digest, entry: object, into: Path) -> None:
        into.write_bytes(b"other bytes")


def test_what_does_not_match_its_manifest_is_never_seen(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bent").mkdir()
    bent = Bent(tmp_path / "bent")
    digest = bent.add(1000)
    with pytest.raises(Rejected):
        DirectoryCache(folder, max_bytes=None).fetch(digest, bent)
    assert cached(folder) == set()
    assert staged(folder) == []


def test_what_the_source_does_not_have_leaves_nothing(folder: Path, shelf: Shelf) -> None:
    with pytest.raises(NotFound):
        DirectoryCache(folder, max_bytes=None).fetch(Digest("0" * 64), shelf)
    assert cached(folder) == set()
    assert list((folder / "downloads").iterdir()) == []


def test_a_full_disk_fails_one_fetch_and_leaves_nothing_torn(
    tmp_path: Path, shelf: Shelf, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(512)
    cache = DirectoryCache(disk, max_bytes=None)
    first, large = shelf.add(200_000), shelf.add(400_000)
    cache.fetch(first, shelf)
    with pytest.raises(StorageFull):
        cache.fetch(large, shelf)
    assert cached(disk) == {first}
    assert staged(disk) == []
    verify(cache.fetch(first, shelf), first)


def test_a_disk_smaller_than_the_bound_is_the_bound(
    shelf: Shelf, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(1024)
    cache = DirectoryCache(disk, max_bytes=1 << 30)
    first, second, third = (shelf.add(400_000) for _ in range(3))
    fetched(cache, shelf, first, second)
    verify(cache.fetch(third, shelf), third)
    assert cached(disk) == {second, third}
    for digest in (second, third):
        cache.pin(digest)
    with pytest.raises(StorageFull) as raised:
        cache.fetch(first, shelf)
    assert raised.value.reason == "artifact_cache_full"
    assert cached(disk) == {second, third}


FETCHES = """
import sys
from pathlib import Path
from adapters.errors import StorageFull
from adapters.store.cache import DirectoryCache
from tests.adapters.store.sources import Shelf

cache = DirectoryCache(Path(sys.argv[1]), max_bytes=2500)
try:
    cache.fetch(sys.argv[3], Shelf(Path(sys.argv[2])))
except StorageFull:
    sys.exit(3)
except OSError:
    sys.exit(4)
"""


@pytest.mark.parametrize(
    "fault",
    ["rename:signal=KILL", "unlink:signal=KILL", "chmod:signal=KILL", "rename:error=EIO"],
)
def test_a_fetch_that_evicts_and_is_harmed_at_any_system_call_leaves_nothing_torn(
    tmp_path: Path, folder: Path, shelf: Shelf, fault: str
) -> None:
    digests = [shelf.add(1000) for _ in range(3)]
    call, _, harm = fault.partition(":")
    for number in range(1, 25):
        fetched(DirectoryCache(folder, max_bytes=2500), shelf, *digests[:2])
        options = ["-o", os.devnull, "-e", f"inject={call}:{harm}:when={number}"]
        done = traced(options, FETCHES, folder, tmp_path / "shelf", Path(digests[2]))
        cache = DirectoryCache(folder, max_bytes=2500)
        assert staged(folder) == []
        for name in cached(folder):
            verify(cache.fetch(Digest(name), shelf), Digest(name))
        if done.returncode == 0:
            break
        assert done.returncode == (-signal.SIGKILL if "KILL" in harm else 4), done.stderr
    else:
        pytest.fail("the harm never ended")
    assert number > 1, "the harm was never felt"
