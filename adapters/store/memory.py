"""The artifact store in memory: the twin of `adapters.store.folder` for fast tests.

Adapters are kept as bytes and written out, into a folder this object owns, when someone asks for
a path. The folder goes when the object does.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from adapters.admission.manifest import MANIFEST_FILE, make_manifest, verify
from adapters.domain.names import Digest
from adapters.errors import NotFound, TooLarge


class MemoryStore:
    """`ArtifactStore` for the threads of one process; see `adapters.store.port`."""

    def __init__(self) -> None:
        self._files: dict[Digest, bytes] = {}
        self._adapters: dict[Digest, dict[str, bytes]] = {}
        self._lock = threading.Lock()
        self._folder: Path | None = None

    def put_file(self, chunks: Iterable[bytes], *, max_bytes: int) -> tuple[Digest, int]:
        content = b""
        for chunk in chunks:
            content += chunk
            if len(content) > max_bytes:
                raise TooLarge(f"more than the {max_bytes} bytes allowed")
        digest = Digest(hashlib.sha256(content).hexdigest())
        with self._lock:
            self._files[digest] = content
        return digest, len(content)

    def open_file(self, digest: Digest) -> BinaryIO:
        with self._lock:
            if digest not in self._files:
                raise NotFound("no such content")
            return io.BytesIO(self._files[digest])

    def delete_file(self, digest: Digest) -> None:
        with self._lock:
            self._files.pop(digest, None)

    def publish_adapter(self, directory: Path) -> Digest:
        manifest = make_manifest(directory)
        content = {entry.name: (directory / entry.name).read_bytes() for entry in manifest.files}
        content[MANIFEST_FILE] = manifest.to_bytes()
        with self._lock:
            self._adapters.setdefault(manifest.digest, content)
        return manifest.digest

    def adapter_path(self, digest: Digest) -> Path:
        with self._lock:
            if digest not in self._adapters:
                raise NotFound("no such adapter in the store")
            path = self._written_out(digest)
        verify(path, digest)
        return path

    def _written_out(self, digest: Digest) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="wardrobe-store-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / digest
        if not path.exists():
            path.mkdir()
            for name, content in self._adapters[digest].items():
                (path / name).write_bytes(content)
        return path
