"""The manifest of an adapter directory: which files it has, how long, with which SHA-256.

It lies in the directory as `manifest.json` and is canonical JSON, so that its own SHA-256 is the
adapter's digest: one number that stands for every byte of every file.
"""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.domain.names import Digest
from adapters.errors import Rejected

MANIFEST_FILE = "manifest.json"
_MAX_MANIFEST_BYTES = 1 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ManifestEntry:
    """One file of the directory."""

    name: str
    size: int
    sha256: Digest


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Every file of the directory but the manifest itself, by name."""

    files: tuple[ManifestEntry, ...]

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        files = [
            {"name": entry.name, "sha256": entry.sha256, "size": entry.size} for entry in self.files
        ]
        text = json.dumps({"files": files}, sort_keys=True, separators=(",", ":"))
        return text.encode("ascii")

    @property
    def digest(self) -> Digest:
        """What the adapter is addressed by."""
        return Digest(hashlib.sha256(self.to_bytes()).hexdigest())


def make_manifest(directory: Path) -> Manifest:
    """Reads every file of a flat directory. Raises Rejected for anything but regular files."""
    return Manifest(files=tuple(_entry(path) for path in content_files(directory)))


def content_files(directory: Path) -> list[Path]:
    """What a manifest lists, by name. Raises Rejected for anything but regular files."""
    paths = sorted(path for path in directory.iterdir() if path.name != MANIFEST_FILE)
    for path in paths:
        _check_regular(path)
    return paths


def read_manifest(directory: Path, digest: Digest) -> Manifest:
    """The directory's manifest. Raises Rejected when it is not the one `digest` stands for."""
    path = directory / MANIFEST_FILE
    try:
        _check_regular(path)
        with path.open("rb") as file:
            content = file.read(_MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise _damaged(MANIFEST_FILE, "cannot be read") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise _damaged(MANIFEST_FILE, "is not the one that was published")
    return _parsed(json.loads(content))


def verify(directory: Path, digest: Digest) -> Manifest:
    """Checks every file against the manifest that `digest` stands for. Raises Rejected."""
    manifest = read_manifest(directory, digest)
    names = {entry.name for entry in manifest.files}
    try:
        present = {path.name for path in directory.iterdir()} - {MANIFEST_FILE}
        for name in sorted(present ^ names):
            raise _damaged(name, "is missing" if name in names else "does not belong here")
        for entry in manifest.files:
            path = directory / entry.name
            _check_regular(path)
            if _entry(path) != entry:
                raise _damaged(entry.name, "differs from its digest")
    except OSError as error:
        raise _damaged("its files", "cannot be read") from error
    return manifest


def sha256_file(path: Path) -> Digest:
    """SHA-256 of a file's bytes, in chunks. Raises OSError."""
    running = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            running.update(chunk)
    return Digest(running.hexdigest())


def _entry(path: Path) -> ManifestEntry:
    return ManifestEntry(name=path.name, size=path.stat().st_size, sha256=sha256_file(path))


def _check_regular(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise Rejected(f"{path.name} is not a regular file", code="adapter_files")


def _parsed(content: dict[str, Any]) -> Manifest:
    # The digest was right, so these are bytes that `to_bytes` wrote.
    return Manifest(files=tuple(ManifestEntry(**entry) for entry in content["files"]))


def _damaged(name: str, problem: str) -> Rejected:
    return Rejected(f"the published adapter is damaged: {name} {problem}", code="adapter_damaged")
