"""The artifact store in a local folder.

    files/<2 hex>/<sha256>      uploaded files and results
    adapters/<digest>/          published adapters, read-only, with their manifest.json
    staging/<random>            what is being written; same file system, so that rename is atomic

An adapter is visible once its complete, fsynced and verified directory is renamed into place
(RELIABILITY: stage, digest, verify, rename, then the registry's row). Nothing published changes.
"""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from adapters.admission.manifest import MANIFEST_FILE, Manifest, content_files, verify
from adapters.domain.names import Digest
from adapters.errors import NotFound, Rejected, TooLarge
from adapters.store.staging import fsync, read_chunks, staged, sweep, write_durably

STALE_AFTER_S = 3600.0
"""No publish goes this long without writing; staging entries older than it are leftovers."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_Print = tuple[tuple[str, int, int, int, int], ...]


class LocalStore:
    """`ArtifactStore` in a folder; safe to use from several threads and processes."""

    def __init__(self, root: Path, *, stale_after_s: float = STALE_AFTER_S) -> None:
        """Makes the folder where needed and sweeps what killed publishes left. Raises OSError."""
        self._files = root.absolute() / "files"
        self._adapters = root.absolute() / "adapters"
        self._staging = root.absolute() / "staging"
        for folder in (self._files, self._adapters, self._staging):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sweep(self._staging, older_than_s=stale_after_s)
        self._verified: dict[Digest, _Print] = {}
        self._lock = threading.Lock()

    def put_file(self, chunks: Iterable[bytes], *, max_bytes: int) -> tuple[Digest, int]:
        """Stores a blob under its digest. Raises TooLarge, StorageFull."""
        with staged(self._staging) as path:
            written = write_durably(path, _limited(chunks, max_bytes))
            final = self._blob(written.sha256)
            final.parent.mkdir(exist_ok=True, mode=0o700)
            # Also where the folder is there: who made it may have died before this.
            fsync(self._files)
            # Replacing an equal blob, and not leaving it alone, keeps the bytes of an upload that
            # crosses with the deletion of the last file that had them.
            path.replace(final)
            fsync(final.parent)
            return written.sha256, written.size

    def open_file(self, digest: Digest) -> BinaryIO:
        """Raises NotFound."""
        try:
            return self._blob(digest).open("rb")
        except FileNotFoundError:
            raise NotFound("no such content") from None

    def delete_file(self, digest: Digest) -> None:
        """Unknown digests are fine."""
        if _DIGEST.fullmatch(digest):
            self._blob(digest).unlink(missing_ok=True)

    def publish_adapter(self, directory: Path) -> Digest:
        """Copies an admitted adapter directory in. Raises StorageFull, Rejected, OSError."""
        with staged(self._staging) as path:
            path.mkdir(mode=0o700)
            sources = content_files(directory)
            copies = [write_durably(path / file.name, read_chunks(file)) for file in sources]
            manifest = Manifest(files=tuple(copies))
            write_durably(path / MANIFEST_FILE, [manifest.to_bytes()])
            fsync(path)
            verify(path, manifest.digest)
            self._make_visible(path, manifest.digest)
            return manifest.digest

    def adapter_path(self, digest: Digest) -> Path:
        """The adapter's directory, checked byte by byte unless nothing was touched since.

        Raises NotFound, Rejected.
        """
        path = self._adapter(digest)
        if not path.is_dir():
            raise NotFound("no such adapter in the store")
        before = _print_of(path)
        with self._lock:
            if self._verified.get(digest) == before:
                return path
        verify(path, digest)
        with self._lock:
            self._verified[digest] = before
        return path

    def fetch(self, digest: Digest) -> Path:
        """The same. Raises NotFound, Rejected."""
        return self.adapter_path(digest)

    def pin(self, digest: Digest) -> None:
        """Nothing here is evicted."""

    def release(self, digest: Digest) -> None:
        """Nothing here is evicted."""

    def _make_visible(self, path: Path, digest: Digest) -> None:
        final = self._adapter(digest)
        try:
            path.rename(final)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            self.adapter_path(digest)  # published before: it must still be whole
        else:
            # Renaming a directory needs leave to write in it, so this comes after.
            final.chmod(0o555)
        # Also where another process was first: it may not have come this far yet.
        fsync(self._adapters)

    def _blob(self, digest: Digest) -> Path:
        return self._files / _checked(digest)[:2] / digest

    def _adapter(self, digest: Digest) -> Path:
        return self._adapters / _checked(digest)


def _checked(digest: Digest) -> Digest:
    """Whatever is not a digest never becomes a path."""
    if not _DIGEST.fullmatch(digest):
        raise NotFound("no such artifact")
    return digest


def _limited(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge(f"more than the {max_bytes} bytes allowed")
        yield chunk


def _print_of(directory: Path) -> _Print:
    """What tells whether a directory was touched: name, inode, size and times of every file."""
    try:
        found = []
        for path in sorted(directory.iterdir()):
            seen = path.lstat()
            found.append((path.name, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))
        return tuple(found)
    except OSError as error:
        raise Rejected("the published adapter cannot be read", code="adapter_damaged") from error
