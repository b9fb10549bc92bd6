"""Where a cache under test gets its directories from: others on the same disk."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

from adapters.admission.manifest import Manifest, ManifestEntry, make_manifest
from adapters.domain.names import Digest
from adapters.errors import NotFound


class Shelf:
    """`cache.Source`: a folder of directories, counting what is downloaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.downloads: list[Digest] = []
        self.open = threading.Event()
        """Downloads wait while it is not set."""
        self.open.set()

    def add(self, size: int) -> Digest:
        """A new directory of `size` bytes beside its manifest."""
        made = self._folder / f"{len(list(self._folder.iterdir()))}"
        made.mkdir()
        (made / "weights").write_bytes(random.Random(made.name).randbytes(size))
        digest = make_manifest(made).digest
        made.rename(self._folder / digest)
        return digest

    def manifest(self, digest: Digest) -> Manifest:
        if not (self._folder / digest).is_dir():
            raise NotFound("no such adapter")
        return make_manifest(self._folder / digest)

    def download(self, digest: Digest, entry: ManifestEntry, into: Path) -> None:
        self.downloads.append(digest)
        assert self.open.wait(30.0)
        shutil.copyfile(self._folder / digest / entry.name, into)
