"""The artifact store in a local folder.

    files/<2 hex>/<sha256>      uploaded files and results
    adapters/<digest>/          published adapters, read-only, with their manifest.json
    bases/<digest>/             published base models, likewise
    datasets/<digest>/          published datasets, likewise
    staging/<random>            what is being written or deleted; same file system: rename is atomic
    pins/<digest>               locked by the processes that use an adapter

A directory is visible once it is complete, fsynced, verified and renamed into place
(RELIABILITY: stage, digest, verify, rename, then the registry's row). Nothing published changes.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from adapters.admission.manifest import (
    MANIFEST_FILE,
    Manifest,
    base_files,
    content_files,
    verify,
)
from adapters.domain.names import Digest
from adapters.durable_files import sync
from adapters.errors import NotFound
from adapters.hashing import is_digest
from adapters.store.digests import check_bytes, checked
from adapters.store.pins import Pins
from adapters.store.port import Artifact, ArtifactKind
from adapters.store.staging import (
    limited,
    read_chunks,
    remove,
    room_needed,
    staged,
    sweep,
    write_entry,
)
from adapters.store.verified import Verified

STALE_AFTER_S = 3600.0
"""No publish goes this long without writing; staging entries older than it are leftovers."""


class FolderStore:
    """Implements `ArtifactStore` in a folder; safe to use from several threads and processes."""

    def __init__(self, root: Path, *, stale_after_s: float = STALE_AFTER_S) -> None:
        """Makes the folder where needed and sweeps what killed publishes left. Raises OSError."""
        root = root.absolute()
        self._files = root / "files"
        self._directories = {
            ArtifactKind.ADAPTER: root / "adapters",
            ArtifactKind.BASE: root / "bases",
            ArtifactKind.DATASET: root / "datasets",
        }
        self._staging = root / "staging"
        for folder in (self._files, *self._directories.values(), self._staging):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._pins = Pins(root / "pins")
        self._verified = Verified()
        self._stale_after_s = stale_after_s
        self._sweep()

    def put_file(self, chunks: Iterable[bytes], *, max_bytes: int) -> tuple[Digest, int]:
        """As `ArtifactStore` says."""
        with staged(self._staging) as path:
            written = write_entry(path, limited(chunks, max_bytes))
            final = self._blob(written.sha256)
            final.parent.mkdir(exist_ok=True, mode=0o700)
            # Also where the folder is there: who made it may have died before this.
            sync(self._files)
            # Replacing an equal blob, and not leaving it alone, makes it as young as this upload:
            # the collector leaves it in peace.
            path.replace(final)
            sync(final.parent)
            return written.sha256, written.size

    def open_file(self, digest: Digest) -> BinaryIO:
        """As `ArtifactStore` says."""
        try:
            file = self._blob(digest).open("rb")
        except FileNotFoundError:
            raise NotFound("no such content") from None
        try:
            check_bytes(file, digest)
        except BaseException:
            file.close()
            raise
        return file

    def publish_adapter(self, directory: Path) -> Digest:
        """As `ArtifactStore` says."""
        return self._publish(content_files(directory), ArtifactKind.ADAPTER)

    def publish_base(self, directory: Path) -> Digest:
        """As `ArtifactStore` says."""
        return self._publish(base_files(directory), ArtifactKind.BASE)

    def publish_dataset(self, directory: Path) -> Digest:
        """As `ArtifactStore` says."""
        return self._publish(content_files(directory), ArtifactKind.DATASET)

    def fetch(self, digest: Digest) -> Path:
        """As `ArtifactStore` says; nothing is copied."""
        return self._verified_path(digest, ArtifactKind.ADAPTER)

    def fetch_base(self, digest: Digest) -> Path:
        """As `ArtifactStore` says; nothing is copied."""
        return self._verified_path(digest, ArtifactKind.BASE)

    def fetch_dataset(self, digest: Digest) -> Path:
        """As `ArtifactStore` says; nothing is copied."""
        return self._verified_path(digest, ArtifactKind.DATASET)

    def pin(self, digest: Digest) -> None:
        """As `ArtifactStore` says; `delete` heeds it."""
        with room_needed():
            self._pins.pin(checked(digest))

    def release(self, digest: Digest) -> None:
        """As `ArtifactStore` says."""
        self._pins.release(digest)

    def has(self, digest: Digest, kind: ArtifactKind) -> bool:
        """As `ArtifactStore` says."""
        if not is_digest(digest):
            return False
        if kind is ArtifactKind.FILE:
            return self._blob(digest).is_file()
        # Renamed into place whole: its name stands for all its files.
        return self._path(digest, kind).is_dir()

    def delete(self, digest: Digest, kind: ArtifactKind) -> bool:
        """As `ArtifactStore` says."""
        if not is_digest(digest):
            return True
        if kind is ArtifactKind.FILE:
            self._blob(digest).unlink(missing_ok=True)
            return True
        with self._pins.unused(digest) as unused:
            if unused:
                self._remove_directory(self._path(digest, kind))
        return unused

    def list(self) -> Iterator[Artifact]:
        """As `ArtifactStore` says. Unfinished publishes are not listed; old ones are swept, because
        their process may have died long after this one began.
        """
        self._sweep()
        for path in self._files.glob("*/*"):
            yield from _listed(path, ArtifactKind.FILE, (path,))
        for kind, folder in self._directories.items():
            for path in folder.iterdir():
                yield from _listed(path, kind, path.iterdir())

    def _publish(self, sources: Mapping[str, Path], kind: ArtifactKind) -> Digest:
        with staged(self._staging) as path:
            path.mkdir(mode=0o700)
            copies = [
                write_entry(path / name, read_chunks(source)) for name, source in sources.items()
            ]
            manifest = Manifest(files=tuple(copies))
            write_entry(path / MANIFEST_FILE, [manifest.to_bytes()])
            sync(path)
            verify(path, manifest.digest)
            self._make_visible(path, manifest.digest, kind)
            return manifest.digest

    def _make_visible(self, path: Path, digest: Digest, kind: ArtifactKind) -> None:
        final = self._path(digest, kind)
        try:
            path.rename(final)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            self._verified_path(digest, kind)  # published before: it must still be whole
        else:
            # Renaming a directory needs leave to write in it, so this comes after.
            final.chmod(0o555)
        # Also where another process was first: it may not have come this far yet.
        sync(final.parent)

    def _verified_path(self, digest: Digest, kind: ArtifactKind) -> Path:
        path = self._path(digest, kind)
        if not path.is_dir():
            raise NotFound("no such artifact in the store")
        self._verified.check(path, digest)
        return path

    def _remove_directory(self, path: Path) -> None:
        """Takes the whole directory out of sight at once, then removes it."""
        staging = self._staging / secrets.token_hex(16)
        try:
            path.chmod(0o700)
            path.rename(staging)
        except FileNotFoundError:
            return
        self._verified.forget(path)
        remove(staging)

    def _sweep(self) -> None:
        sweep(self._staging, older_than_s=self._stale_after_s)

    def _blob(self, digest: Digest) -> Path:
        return self._files / checked(digest)[:2] / digest

    def _path(self, digest: Digest, kind: ArtifactKind) -> Path:
        return self._directories[kind] / checked(digest)


def _listed(path: Path, kind: ArtifactKind, files: Iterable[Path]) -> Iterator[Artifact]:
    """The list's line of one path; none for what is gone or was put there by somebody else."""
    if not is_digest(path.name):
        return
    try:
        seen = [file.stat() for file in files]
        changed = max(stat.st_mtime for stat in (path.stat(), *seen))
    except (FileNotFoundError, NotADirectoryError):
        return
    size = sum(stat.st_size for stat in seen)
    yield Artifact(digest=Digest(path.name), kind=kind, size_bytes=size, modified_at=changed)
