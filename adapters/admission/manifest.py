"""The manifest lists every file of an artifact's directory with its size and its SHA-256.

It lies in the directory as `manifest.json` and is canonical JSON, so that its own SHA-256 is the
artifact's digest: one number that stands for every byte of every file. Adapters have one, and so
have base models that are shared through the artifact store.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from adapters.domain.names import Digest
from adapters.errors import InvalidRequest, Rejected
from adapters.hashing import sha256_bytes, sha256_file

MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
BASE_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What is taken of a base model: weights only as safetensors, for a pickle would be a program."""


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
    def size_bytes(self) -> int:
        """Of all files together, the manifest's own included."""
        return sum(entry.size for entry in self.files) + len(self.to_bytes())

    @property
    def digest(self) -> Digest:
        """What the artifact is addressed by."""
        return sha256_bytes(self.to_bytes())


def manifest_of(sources: Mapping[str, Path]) -> Manifest:
    """Reads the files that a directory is to have under these names. Raises OSError."""
    return Manifest(files=tuple(_entry(name, sources[name]) for name in sorted(sources)))


def content_files(directory: Path) -> Mapping[str, Path]:
    """What a manifest lists, by name. Raises Rejected for anything but regular files."""
    paths = sorted(path for path in directory.iterdir() if path.name != MANIFEST_FILE)
    for path in paths:
        _check_regular(path)
    return {path.name: path for path in paths}


def base_files(directory: Path) -> Mapping[str, Path]:
    """The files of a base model that are published, by name; links are followed.

    A hub's cache is made of links. Raises InvalidRequest where there is no model.
    """
    if not (directory / "config.json").is_file():
        raise InvalidRequest("the base model's folder holds no config.json")
    named = (path for path in directory.iterdir() if path.name != MANIFEST_FILE)
    wanted = (path for path in named if any(fnmatch(path.name, kind) for kind in BASE_FILES))
    return {path.name: path.resolve() for path in sorted(wanted) if path.is_file()}


def read_manifest(directory: Path, digest: Digest) -> Manifest:
    """The directory's manifest. Raises Rejected when it is not the one `digest` stands for."""
    path = directory / MANIFEST_FILE
    try:
        _check_regular(path)
        with path.open("rb") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise damaged(MANIFEST_FILE, "cannot be read") from error
    return parse_manifest(content, digest)


def parse_manifest(content: bytes, digest: Digest) -> Manifest:
    """The manifest in these bytes. Raises Rejected when it is not the one `digest` stands for."""
    if sha256_bytes(content) != digest:
        raise damaged(MANIFEST_FILE, "is not the one that was published")
    try:
        files = json.loads(content)["files"]
        manifest = Manifest(files=tuple(ManifestEntry(**entry) for entry in files))
        _check_entries(manifest.files)
    except (ValueError, KeyError, TypeError):
        # Bytes that nobody published as a manifest, under the digest that they have.
        raise damaged(MANIFEST_FILE, "is no manifest") from None
    return manifest


def _check_entries(entries: Iterable[ManifestEntry]) -> None:
    """Raises ValueError where an entry would not name a file of the directory."""
    for entry in entries:
        if Path(entry.name).name != entry.name or entry.name in ("", "..", MANIFEST_FILE):
            raise ValueError("no file's name")
        if entry.size < 0:
            raise ValueError("no file's size")


def verify(directory: Path, digest: Digest) -> Manifest:
    """Checks every file against the manifest that `digest` stands for. Raises Rejected."""
    manifest = read_manifest(directory, digest)
    names = {entry.name for entry in manifest.files}
    try:
        present = {path.name for path in directory.iterdir()} - {MANIFEST_FILE}
        for name in sorted(present ^ names):
            raise damaged(name, "is missing" if name in names else "does not belong here")
        for entry in manifest.files:
            path = directory / entry.name
            _check_regular(path)
            if _entry(entry.name, path) != entry:
                raise damaged(entry.name, "differs from its digest")
    except OSError as error:
        raise damaged("its files", "cannot be read") from error
    return manifest


def damaged(name: str, problem: str) -> Rejected:
    """What is raised for a published directory that is not as it was published."""
    return Rejected(f"what was published is damaged: {name} {problem}", code="adapter_damaged")


def _entry(name: str, path: Path) -> ManifestEntry:
    return ManifestEntry(name=name, size=path.stat().st_size, sha256=sha256_file(path))


def _check_regular(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise Rejected(f"{path.name} is not a regular file", code="adapter_files")
