"""The local store under what the contract suite cannot do to it: kills, a full disk, meddling."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters.admission.manifest import verify
from adapters.domain.names import Digest
from adapters.errors import Rejected, StorageFull
from adapters.store.folder import FolderStore
from adapters.store.port import ArtifactKind
from adapters.store.staging import remove, sweep
from tests.adapters.store.sources import an_adapter
from tests.adapters.tracing import synced, traced

PUBLISHES_FOR_EVER = """
import sys
from pathlib import Path
from adapters.store.folder import FolderStore

store, source = FolderStore(Path(sys.argv[1])), Path(sys.argv[2])
print("ready", flush=True)
number = 0
while True:
    number += 1
    (source / "adapter_config.json").write_text(str(number))
    print(store.publish_adapter(source), flush=True)
    store.put_file([str(number).encode() * 1000], max_bytes=1 << 20)
"""


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return an_adapter(tmp_path / "trained")


def published(root: Path) -> set[Digest]:
    return {Digest(path.name) for path in (root / "adapters").iterdir()}


def staged(root: Path) -> list[Path]:
    return list((root / "staging").iterdir())


def test_a_published_adapter_is_read_only_and_nothing_stays_in_staging(
    tmp_path: Path, adapter: Path
) -> None:
    store = FolderStore(tmp_path / "artifacts")
    path = store.fetch(store.publish_adapter(adapter))
    modes = {stat.S_IMODE(found.stat().st_mode) for found in (path, *path.iterdir())}
    assert modes == {0o555, 0o444}
    store.publish_adapter(adapter)
    assert staged(tmp_path / "artifacts") == []


def test_another_process_sees_what_was_published(tmp_path: Path, adapter: Path) -> None:
    digest = FolderStore(tmp_path / "artifacts").publish_adapter(adapter)
    again = FolderStore(tmp_path / "artifacts")
    assert len(verify(again.fetch(digest), digest).files) == 2


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """What is opened while the test runs. An audit hook cannot be taken away, only stilled."""
    paths: list[str] = []
    over = threading.Event()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not over.is_set():
            paths.append(str(arguments[0]))

    sys.addaudithook(note)
    yield paths
    over.set()


def test_an_untouched_adapter_is_read_once(
    tmp_path: Path, adapter: Path, opened: list[str]
) -> None:
    store = FolderStore(tmp_path / "artifacts")
    digest = store.publish_adapter(adapter)
    weights = store.fetch(digest) / "adapter_model.safetensors"
    assert opened.pop() == str(weights)
    opened.clear()
    for _ in range(20):
        store.fetch(digest)
    assert opened == []
    weights.chmod(0o644)
    content, times = bytearray(weights.read_bytes()), weights.stat()
    content[7] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(Rejected):
        store.fetch(digest)


def test_publishing_over_a_damaged_copy_does_not_call_it_published(
    tmp_path: Path, adapter: Path
) -> None:
    store = FolderStore(tmp_path / "artifacts")
    path = store.fetch(store.publish_adapter(adapter))
    (path / "adapter_config.json").chmod(0o600)
    (path / "adapter_config.json").write_text("[]")
    with pytest.raises(Rejected):
        store.publish_adapter(adapter)
    assert staged(tmp_path / "artifacts") == []


@pytest.mark.parametrize(
    "sweeps", [lambda _, root: FolderStore(root), lambda store, _: list(store.list())]
)
def test_old_leftovers_are_swept_at_open_and_by_the_collectors_look_and_young_ones_stay(
    tmp_path: Path, sweeps: Callable[[FolderStore, Path], object]
) -> None:
    root = tmp_path / "artifacts"
    store = FolderStore(root)
    for name, age in (("old", 7200), ("young", 60)):
        folder = root / "staging" / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")
        (root / "staging" / f"{name}-file").write_text("{}")
        (folder / "adapter_config.json").chmod(0o444)
        for path in (folder / "adapter_config.json", folder, root / "staging" / f"{name}-file"):
            os.utime(path, (time.time() - age, time.time() - age))
    (root / "staging" / "old").chmod(0o500)
    sweeps(store, root)
    assert {path.name for path in staged(root)} == {"young", "young-file"}


class Vanishing(type(Path())):  # type: ignore[misc]
    """A folder that another sweeper removes between two looks at it."""

    def is_dir(self) -> bool:
        there = bool(super().is_dir())
        shutil.rmtree(self, ignore_errors=True)
        return there


def test_what_another_sweeper_removes_meanwhile_is_fine(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    remove(Vanishing(tmp_path / "old"))
    assert list(tmp_path.iterdir()) == []


def test_two_sweepers_at_once_leave_nothing_and_do_not_disturb_each_other(tmp_path: Path) -> None:
    start = threading.Barrier(2)

    def sweep_all(_: int) -> None:
        start.wait(30.0)
        sweep(tmp_path, older_than_s=-1.0)

    for number in range(200):
        (tmp_path / f"{number}").mkdir()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(sweep_all, range(2)))
    assert list(tmp_path.iterdir()) == []


def test_an_uploaded_file_survives_a_power_cut_whoever_made_its_folder(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    script = (
        "import sys; from pathlib import Path; from adapters.store import FolderStore\n"
        "FolderStore(Path(sys.argv[1])).put_file([b'x'], max_bytes=9)"
    )
    for _ in range(2):
        content, files, folder = synced(tmp_path / "log", script, root)
        assert Path(content).parent == root / "staging"
        assert files == str(root / "files")
        assert Path(folder).parent == root / "files"


def test_many_publish_the_same_adapter_at_once(tmp_path: Path, adapter: Path) -> None:
    stores = [FolderStore(tmp_path / "artifacts") for _ in range(8)]
    start, digests = threading.Barrier(8), []

    def publish(store: FolderStore) -> None:
        start.wait()
        digests.append(store.publish_adapter(adapter))

    threads = [threading.Thread(target=publish, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 8
    assert published(tmp_path / "artifacts") == {digests[0]}
    assert staged(tmp_path / "artifacts") == []


@pytest.mark.timeout(60)
def test_a_publish_killed_at_any_moment_is_whole_or_invisible(
    tmp_path: Path, adapter: Path
) -> None:
    root, chance = tmp_path / "artifacts", random.Random(5)
    acknowledged: list[str] = []
    store = FolderStore(root)
    for _ in range(12):
        command = [sys.executable, "-c", PUBLISHES_FOR_EVER, str(root), str(adapter)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
            acknowledged += process.stdout.read().split()
        store = FolderStore(root)
        for digest in published(root):
            store.fetch(digest)
        for blob in (root / "files").glob("*/*"):
            with store.open_file(blob.name) as file:  # type: ignore[arg-type]
                assert file.read().isdigit()
    assert acknowledged
    # A line that the kill tore off is not an acknowledgement.
    assert {line for line in acknowledged if len(line) == 64} <= published(root)
    FolderStore(root, stale_after_s=-1.0)
    assert staged(root) == []


PUBLISHES_ONCE = """
import sys
from pathlib import Path
from adapters.errors import StorageFull
from adapters.store.folder import FolderStore

try:
    FolderStore(Path(sys.argv[1])).publish_adapter(Path(sys.argv[2]))
except StorageFull:
    sys.exit(3)
except OSError:
    sys.exit(4)
"""
NO_ROOM, REFUSED, KILLED = 3, 4, -signal.SIGKILL


def publish_under(fault: str, root: Path, adapter: Path) -> int:
    """How a process ends that publishes while strace harms its system calls."""
    options = ["-o", os.devnull, "-e", f"inject={fault}"]
    return traced(options, PUBLISHES_ONCE, root, adapter).returncode


@pytest.mark.parametrize(
    ("call", "harm", "first", "end"),
    [
        ("fsync", "error=EIO", 1, REFUSED),
        ("rename", "error=EIO", 1, REFUSED),
        # opening the store asks six times for folders that are there
        ("mkdir", "error=ENOSPC", 7, NO_ROOM),
        ("write", "error=ENOSPC", 1, NO_ROOM),
        ("write", "signal=KILL", 1, KILLED),
        ("rename", "signal=KILL", 1, KILLED),
        ("fsync", "signal=KILL", 1, KILLED),
        ("fchmod", "signal=KILL", 1, KILLED),
    ],
)
def test_harm_to_every_system_call_in_turn_shows_nothing_half_done(
    tmp_path: Path, adapter: Path, call: str, harm: str, first: int, end: int
) -> None:
    root = tmp_path / "artifacts"
    store, ends = FolderStore(root), []
    for number in range(first, first + 25):
        ends.append(publish_under(f"{call}:{harm}:when={number}", root, adapter))
        store = FolderStore(root)
        for digest in published(root):
            store.fetch(digest)
        if end != KILLED:
            assert staged(root) == []
        if ends[-1] == 0:
            break
    assert len(ends) > 1, "the harm was never felt"
    assert ends == [end] * (len(ends) - 1) + [0]
    assert len(published(root)) == 1


def test_a_full_disk_shows_nothing_and_works_again_when_there_is_room(
    tmp_path: Path, adapter: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(1024)
    store = FolderStore(disk)
    first = store.publish_adapter(adapter)
    filler = disk / "filler"
    filler.write_bytes(b"x" * 500_000)
    large = an_adapter(tmp_path / "large", size=600_000)
    with pytest.raises(StorageFull):
        store.publish_adapter(large)
    with pytest.raises(StorageFull):
        store.put_file([b"y" * 100_000] * 6, max_bytes=1 << 30)
    assert published(disk) == {first}
    assert list((disk / "files").glob("*/*")) == []
    assert staged(disk) == []
    store.fetch(first)
    filler.unlink()
    assert store.fetch(store.publish_adapter(large)).is_dir()


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_every_truncation_and_every_flipped_bit_is_found_before_the_engine_sees_it(
    tmp_path: Path, name: str
) -> None:
    store = FolderStore(tmp_path / "artifacts")
    digest = store.publish_adapter(an_adapter(tmp_path / "trained", size=50_000))
    path = store.fetch(digest) / name
    path.chmod(0o600)
    content = path.read_bytes()
    for place in {0, 1, len(content) - 1, *range(0, len(content), 4096)}:
        flipped = content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        for harmed in (content[:place], flipped):
            path.write_bytes(harmed)
            with pytest.raises(Rejected):
                store.fetch(digest)
    path.write_bytes(content)
    store.fetch(digest)


def test_the_files_of_two_versions_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "artifacts")
    one, two = (
        store.fetch(store.publish_adapter(an_adapter(tmp_path / f"{seed}", seed=seed)))
        for seed in range(2)
    )
    for path in (one, two):
        path.chmod(0o700)
    (one / "adapter_model.safetensors").rename(tmp_path / "between")
    (two / "adapter_model.safetensors").rename(one / "adapter_model.safetensors")
    (tmp_path / "between").rename(two / "adapter_model.safetensors")
    for path in (one, two):
        with pytest.raises(Rejected):
            store.fetch(Digest(path.name))


@pytest.mark.parametrize("content", [b"", b"ab", b"abcd", b"abd"])
def test_a_damaged_file_gives_no_byte_and_is_mended_by_an_upload(
    tmp_path: Path, content: bytes
) -> None:
    store = FolderStore(tmp_path / "artifacts")
    digest, _ = store.put_file([b"abc"], max_bytes=9)
    (stored,) = (tmp_path / "artifacts" / "files").glob("*/*")
    stored.chmod(0o600)
    stored.write_bytes(content)
    with pytest.raises(Rejected) as raised:
        store.open_file(digest)
    assert raised.value.reason == "file_damaged"
    store.put_file([b"abc"], max_bytes=9)
    with store.open_file(digest) as file:
        assert file.read() == b"abc"


def test_what_an_engine_uses_is_not_deleted(tmp_path: Path, adapter: Path) -> None:
    store, other = (FolderStore(tmp_path / "artifacts") for _ in range(2))
    digest = store.publish_adapter(adapter)
    store.pin(digest)
    assert not other.delete(digest, ArtifactKind.ADAPTER)
    verify(store.fetch(digest), digest)
    store.release(digest)
    assert other.delete(digest, ArtifactKind.ADAPTER)
    assert staged(tmp_path / "artifacts") == []
