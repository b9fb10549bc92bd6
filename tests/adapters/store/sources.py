"""Directories to publish, and where a cache under test gets its own from."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

from adapters.admission.manifest import Manifest, ManifestEntry, content_files, manifest_of
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
        digest = manifest_of(content_files(made)).digest
        made.rename(self._folder / digest)
        return digest

    def manifest(self, digest: Digest) -> Manifest:
        if not (self._folder / digest).is_dir():
            raise NotFound("no such adapter")
        return manifest_of(content_files(self._folder / digest))

    def download(self, digest: Digest, entry: ManifestEntry, into: Path) -> None:
        self.downloads.append(digest)
        assert self.open.wait(30.0)
        shutil.copyfile(self._folder / digest / entry.name, into)


def an_adapter(folder: Path, *, size: int = 300_000, seed: int = 1) -> Path:
    """A new directory like a trained adapter's."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(random.Random(seed).randbytes(size))
    return folder


def a_base(folder: Path) -> Path:
    """A new directory like a base model's in a hub's cache, which is made of links."""
    blobs = folder.with_name(f"{folder.name}-blobs")
    blobs.mkdir(parents=True)
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "pytorch_model.bin"):
        (blobs / name).write_bytes(name.encode() * 1000)
        (folder / name).symlink_to(blobs / name)
    (folder / "original").mkdir()
    return folder
