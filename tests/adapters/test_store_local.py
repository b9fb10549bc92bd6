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
from pathlib import Path

import pytest

from adapters.errors import Rejected, StorageFull
from adapters.manifest import verify
from adapters.store.local import LocalStore

PUBLISHES_FOR_EVER = """
import sys
from pathlib import Path
from adapters.store.local import LocalStore

store, source = LocalStore(Path(sys.argv[1])), Path(sys.argv[2])
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


def an_adapter(folder: Path, size: int = 300_000) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(random.Random(1).randbytes(size))
    return folder


def staged(root: Path) -> list[Path]:
    return list((root / "staging").iterdir())


def test_a_published_adapter_is_read_only_and_nothing_stays_in_staging(
    tmp_path: Path, adapter: Path
) -> None:
    store = LocalStore(tmp_path / "artifacts")
    path = store.adapter_path(store.publish_adapter(adapter))
    modes = {stat.S_IMODE(found.stat().st_mode) for found in (path, *path.iterdir())}
    assert modes == {0o555, 0o444}
    store.publish_adapter(adapter)
    assert staged(tmp_path / "artifacts") == []


def test_another_process_sees_what_was_published(tmp_path: Path, adapter: Path) -> None:
    digest = LocalStore(tmp_path / "artifacts").publish_adapter(adapter)
    again = LocalStore(tmp_path / "artifacts")
    assert list(again.adapters()) == [digest]
    assert verify(again.adapter_path(digest), digest).size_bytes == 300_002


def test_an_untouched_adapter_is_read_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "artifacts")
    digest = store.publish_adapter(an_adapter(tmp_path / "large", size=32 << 20))
    started = time.perf_counter()
    path = store.adapter_path(digest)
    first = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(20):
        store.adapter_path(digest)
    assert (time.perf_counter() - started) / 20 < first / 3
    weights = path / "adapter_model.safetensors"
    weights.chmod(0o644)
    content, times = bytearray(weights.read_bytes()), weights.stat()
    content[7] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(Rejected):
        store.adapter_path(digest)


def test_publishing_over_a_damaged_copy_does_not_call_it_published(
    tmp_path: Path, adapter: Path
) -> None:
    store = LocalStore(tmp_path / "artifacts")
    path = store.adapter_path(store.publish_adapter(adapter))
    (path / "adapter_config.json").chmod(0o600)
    (path / "adapter_config.json").write_text("[]")
    with pytest.raises(Rejected):
        store.publish_adapter(adapter)
    assert staged(tmp_path / "artifacts") == []


def test_old_leftovers_are_swept_at_open_and_young_ones_stay(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    LocalStore(root)
    for name, age in (("old", 7200), ("young", 60)):
        folder = root / "staging" / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")
        (root / "staging" / f"{name}-file").write_text("{}")
        (folder / "adapter_config.json").chmod(0o444)
        for path in (folder / "adapter_config.json", folder, root / "staging" / f"{name}-file"):
            os.utime(path, (time.time() - age, time.time() - age))
    (root / "staging" / "old").chmod(0o500)
    LocalStore(root)
    assert {path.name for path in staged(root)} == {"young", "young-file"}


def test_many_publish_the_same_adapter_at_once(tmp_path: Path, adapter: Path) -> None:
    stores = [LocalStore(tmp_path / "artifacts") for _ in range(8)]
    start, digests = threading.Barrier(8), []

    def publish(store: LocalStore) -> None:
        start.wait()
        digests.append(store.publish_adapter(adapter))

    threads = [threading.Thread(target=publish, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 8
    assert list(stores[0].adapters()) == [digests[0]]
    assert staged(tmp_path / "artifacts") == []


@pytest.mark.timeout(60)
def test_a_publish_killed_at_any_moment_is_whole_or_invisible(
    tmp_path: Path, adapter: Path
) -> None:
    root, chance = tmp_path / "artifacts", random.Random(5)
    acknowledged: list[str] = []
    store = LocalStore(root)
    for _ in range(12):
        command = [sys.executable, "-c", PUBLISHES_FOR_EVER, str(root), str(adapter)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
            acknowledged += process.stdout.read().split()
        store = LocalStore(root)
        for digest in store.adapters():
            store.adapter_path(digest)
        for blob in (root / "files").glob("*/*"):
            with store.open_file(blob.name) as file:  # type: ignore[arg-type]
                assert file.read().isdigit()
    assert acknowledged
    # A line that the kill tore off is not an acknowledgement.
    assert {line for line in acknowledged if len(line) == 64} <= set(store.adapters())
    LocalStore(root, stale_after_s=-1.0)
    assert staged(root) == []


PUBLISHES_ONCE = """
import sys
from pathlib import Path
from adapters.errors import StorageFull
from adapters.store.local import LocalStore

try:
    LocalStore(Path(sys.argv[1])).publish_adapter(Path(sys.argv[2]))
except StorageFull:
    sys.exit(3)
except OSError:
    sys.exit(4)
"""
NO_ROOM, REFUSED, KILLED = 3, 4, -signal.SIGKILL


def publish_under(fault: str, root: Path, adapter: Path) -> int:
    """How a process ends that publishes while strace harms its system calls."""
    script = [sys.executable, "-B", "-c", PUBLISHES_ONCE, str(root), str(adapter)]
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject={fault}", *script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "ptrace" in done.stderr:
        pytest.skip("this machine forbids ptrace")
    return done.returncode


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("call", "harm", "first", "end"),
    [
        ("fsync", "error=EIO", 1, REFUSED),
        ("rename", "error=EIO", 1, REFUSED),
        # opening the store asks three times for folders that are there
        ("mkdir", "error=ENOSPC", 4, NO_ROOM),
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
    store, ends = LocalStore(root), []
    for number in range(first, first + 25):
        ends.append(publish_under(f"{call}:{harm}:when={number}", root, adapter))
        store = LocalStore(root)
        for digest in store.adapters():
            store.adapter_path(digest)
        if end != KILLED:
            assert staged(root) == []
        if ends[-1] == 0:
            break
    assert len(ends) > 1, "the harm was never felt"
    assert ends == [end] * (len(ends) - 1) + [0]
    assert len(list(store.adapters())) == 1


def test_a_full_disk_shows_nothing_and_works_again_when_there_is_room(
    tmp_path: Path, adapter: Path, small_disk: Path
) -> None:
    store = LocalStore(small_disk)
    first = store.publish_adapter(adapter)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 500_000)
    large = an_adapter(tmp_path / "large", size=600_000)
    with pytest.raises(StorageFull):
        store.publish_adapter(large)
    with pytest.raises(StorageFull):
        store.put_file([b"y" * 100_000] * 6, max_bytes=1 << 30)
    assert list(store.adapters()) == [first]
    assert list((small_disk / "files").glob("*/*")) == []
    assert staged(small_disk) == []
    store.adapter_path(first)
    filler.unlink()
    assert store.adapter_path(store.publish_adapter(large)).is_dir()
