"""A bounded local cache of directories that come from elsewhere, shared by processes.

    entries/<digest>/           verified and read-only; its own time of change is its last use
    staging/<random>-<bytes>/   being downloaded, with the room set aside for it; locked meanwhile
    pins/<digest>               locked by the processes that use an entry
    downloads/<digest>          locked by the process that downloads it
    lock                        held while room is counted, taken or given back

Nothing here is the only copy: nothing is fsynced, and what a crash tore is found by its digest and
mended. The kernel drops the locks of a killed process, so its leftovers are known at once.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from adapters.admission.manifest import MANIFEST_FILE, Manifest, ManifestEntry, verify
from adapters.domain.names import Digest
from adapters.errors import Rejected, StorageFull
from adapters.file_locks import exclusive, lock, try_lock
from adapters.store.pins import Pins
from adapters.store.staging import remove, room_needed
from adapters.store.verified import Verified


class Source(Protocol):
    """Where directories come from."""

    def manifest(self, digest: Digest) -> Manifest:
        """Raises NotFound, Rejected, Unavailable."""
        ...

    def download(self, digest: Digest, entry: ManifestEntry, into: Path) -> None:
        """Writes one file, checked against its digest. Raises Rejected, Unavailable, OSError."""
        ...


class DirectoryCache:
    """Keeps directories by digest; evicts the longest unused first, those in use never."""

    def __init__(self, folder: Path, *, max_bytes: int | None) -> None:
        """Makes the folders where needed and sweeps leftovers; None bounds nothing.

        Raises OSError.
        """
        folder = folder.absolute()
        self._entries, self._staging = folder / "entries", folder / "staging"
        self._downloads, self._lock = folder / "downloads", folder / "lock"
        for made in (self._entries, self._staging, self._downloads):
            made.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._pins = Pins(folder / "pins")
        self._verified = Verified()
        self._max_bytes = max_bytes
        with exclusive(self._lock):
            self._sweep()

    def pin(self, digest: Digest) -> None:
        """Keeps an entry, also one still to come. Raises StorageFull, OSError."""
        with room_needed():
            self._pins.pin(digest)

    def release(self, digest: Digest) -> None:
        """Takes one `pin` back; until now the entry was in use. Raises ValueError."""
        self._touch(self._entries / digest)
        self._pins.release(digest)

    def fetch(self, digest: Digest, source: Source) -> Path:
        """The entry's directory, verified; downloaded or mended where it must.

        Blocks while another thread or process downloads the same. Raises what `source` raises,
        and StorageFull.
        """
        path = self._entries / digest
        with room_needed():
            if self._is_whole(path, digest):
                return path
            with exclusive(self._downloads / digest):
                if not self._is_whole(path, digest):
                    self._download(path, digest, source)
        return path

    def _is_whole(self, path: Path, digest: Digest) -> bool:
        try:
            self._verified.check(path, digest)
        except Rejected:
            return False
        return self._touch(path)

    def _download(self, path: Path, digest: Digest, source: Source) -> None:
        manifest = source.manifest(digest)
        with self._staged(manifest.size_bytes) as staged:
            for entry in manifest.files:
                source.download(digest, entry, staged / entry.name)
            (staged / MANIFEST_FILE).write_bytes(manifest.to_bytes())
            for file in staged.iterdir():
                file.chmod(0o444)
            verify(staged, digest)
            with exclusive(self._lock):
                _put_in_place(staged, path)
            self._verified.check(path, digest)

    @contextmanager
    def _staged(self, size: int) -> Iterator[Path]:
        """A locked folder in staging with `size` bytes of room; removed at the end."""
        with exclusive(self._lock):
            self._make_room(size)
            path = self._staging / f"{secrets.token_hex(16)}-{size}"
            path.mkdir(mode=0o700)
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            lock(held)
        try:
            yield path
        finally:
            remove(path)
            os.close(held)

    def _make_room(self, size: int) -> None:
        """Evicts until `size` more bytes fit the bound and the disk, as far as that can be.

        Raises StorageFull. Needs the lock.
        """
        self._sweep()
        if self._max_bytes is None:
            return
        disk = shutil.disk_usage(self._entries)
        entries = {path: _size(path) for path in self._entries.iterdir()}
        wanted = size + sum(int(path.name.partition("-")[2]) for path in self._staging.iterdir())
        excess = max(sum(entries.values()) + wanted - self._max_bytes, wanted - disk.free)
        could_fit = size <= min(self._max_bytes, disk.total)
        for path in sorted(entries, key=lambda path: path.stat().st_mtime):
            if could_fit and excess > 0 and self._evict(path):
                excess -= entries[path]
        if excess > 0:
            raise StorageFull(
                f"the artifact cache has no room for {size} bytes beside the adapters in use; "
                "raise WARDROBE_ARTIFACT_CACHE_GIB, or give its disk more room",
                code="artifact_cache_full",
            )

    def _evict(self, path: Path) -> bool:
        """Whether the entry is gone now: not where somebody uses it."""
        with self._pins.unused(Digest(path.name)) as unused:
            if unused:
                self._verified.forget(path)
                path.chmod(0o700)
                # Out of sight at once: nobody may see a directory that is half removed.
                gone = path.rename(self._staging / f"{secrets.token_hex(16)}-0")
                remove(gone)
        return unused

    def _sweep(self) -> None:
        """Removes what killed processes left in staging: nobody locks it. Needs the lock."""
        for path in self._staging.iterdir():
            if _is_abandoned(path):
                remove(path)

    def _touch(self, path: Path) -> bool:
        """Notes a use; False where the entry is gone."""
        with suppress(FileNotFoundError):
            os.utime(path)
            return True
        return False


def _put_in_place(staged: Path, path: Path) -> None:
    """Makes a verified directory the entry `path`, in the place of a damaged one.

    An engine may be reading the damaged one, and dies where a directory vanishes: its files are
    replaced one by one, and at no moment is one missing that was there.
    """
    if not path.exists():
        staged.rename(path)
    else:
        path.chmod(0o700)
        good = {file.name for file in staged.iterdir()}
        for name in good:
            (staged / name).replace(path / name)
        for stray in path.iterdir():
            if stray.name not in good:
                remove(stray)
    path.chmod(0o555)


def _is_abandoned(path: Path) -> bool:
    """Whether no process holds the lock on a folder of staging."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.iterdir())
