"""The artifact store in object storage, with bounded local caches in front.

    files/<sha256>                    uploaded files and results
    adapters/<digest>/<file name>     an adapter's files
    adapters/<digest>/manifest.json   written last: with it the adapter is visible
    bases/<digest>/…                  base models, likewise
    datasets/<digest>/…               datasets, likewise

A key stands for the same bytes for ever, whoever writes it: two publishers of one adapter help
each other, what a killed one left is finished by the next, and damaged bytes are written anew.
Every write is read back and every read is checked against its digest.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from adapters.admission.manifest import (
    MANIFEST_FILE,
    Manifest,
    ManifestEntry,
    base_files,
    content_files,
    damaged,
    manifest_of,
)
from adapters.domain.names import Digest
from adapters.errors import NotFound, Rejected, Unavailable
from adapters.hashing import RunningSha256, is_digest
from adapters.store.bucket import Bucket
from adapters.store.cache import DirectoryCache
from adapters.store.digests import checked, damaged_file
from adapters.store.port import Artifact, ArtifactKind
from adapters.store.staging import limited, opened, room_needed
from adapters.store.verified_objects import VerifiedObjects

_FOLDERS = {
    ArtifactKind.FILE: "files",
    ArtifactKind.ADAPTER: "adapters",
    ArtifactKind.BASE: "bases",
    ArtifactKind.DATASET: "datasets",
}
_KINDS = {folder: kind for kind, folder in _FOLDERS.items()}
_log = logging.getLogger(__name__)


class ObjectStore:
    """Implements `ArtifactStore` in a bucket; safe to use from several threads and processes."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        adapters: DirectoryCache,
        bases: DirectoryCache,
        datasets: DirectoryCache,
        scratch: Path,
    ) -> None:
        """Asks the storage whether it honours conditional puts, and says so if it does not.

        `scratch` holds what is being sent or checked, without a name. A storage that is down now
        holds up nothing that is cached: it is asked again before the first publish. Raises
        InvalidRequest where the bucket does not exist, Unavailable where it refuses us, OSError.
        """
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._bucket = bucket
        self._objects = VerifiedObjects(bucket)
        self._scratch = scratch
        self._caches = {
            ArtifactKind.ADAPTER: adapters,
            ArtifactKind.BASE: bases,
            ArtifactKind.DATASET: datasets,
        }
        self._conditional: bool | None = None
        try:
            self._has_conditional_puts()
        except Unavailable as error:
            if error.reason == "storage_refused":
                raise
            _log.warning("the object storage does not answer at start; cached adapters serve")

    def put_file(self, chunks: Iterable[bytes], *, max_bytes: int) -> tuple[Digest, int]:
        """As `ArtifactStore` says."""
        running = RunningSha256()
        with room_needed(), self._unnamed() as file:
            file.writelines(running.over(limited(chunks, max_bytes)))
            # Writing an equal blob again makes it as young as this upload: the collector leaves
            # it in peace.
            key = _key(running.digest, ArtifactKind.FILE)
            self._objects.write(key, file, running.digest, running.size)
        return running.digest, running.size

    def open_file(self, digest: Digest) -> BinaryIO:
        """As `ArtifactStore` says; the bytes lie in a local file without a name."""
        key = _key(digest, ArtifactKind.FILE)
        size = self._bucket.size(key)
        with room_needed():
            file = self._unnamed()
            try:
                if not self._objects.read(key, digest, size, file):
                    raise damaged_file()
                file.seek(0)
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
        """As `ArtifactStore` says; a cached adapter needs no storage."""
        return self._fetch(digest, ArtifactKind.ADAPTER)

    def fetch_base(self, digest: Digest) -> Path:
        """As `ArtifactStore` says; a cached base needs no storage."""
        return self._fetch(digest, ArtifactKind.BASE)

    def fetch_dataset(self, digest: Digest) -> Path:
        """As `ArtifactStore` says."""
        return self._fetch(digest, ArtifactKind.DATASET)

    def pin(self, digest: Digest) -> None:
        """As `ArtifactStore` says."""
        self._caches[ArtifactKind.ADAPTER].pin(checked(digest))

    def release(self, digest: Digest) -> None:
        """As `ArtifactStore` says."""
        self._caches[ArtifactKind.ADAPTER].release(digest)

    def has(self, digest: Digest, kind: ArtifactKind) -> bool:
        """As `ArtifactStore` says; asks for the size of each file."""
        if not is_digest(digest):
            return False
        key = _key(digest, kind)
        try:
            if kind is ArtifactKind.FILE:
                return self._bucket.size(key) >= 0
            manifest = self._objects.manifest(_manifest_key(digest, kind), digest)
            return all(
                self._bucket.size(f"{key}/{entry.name}") == entry.size for entry in manifest.files
            )
        except (NotFound, Rejected):
            return False

    def delete(self, digest: Digest, kind: ArtifactKind) -> bool:
        """As `ArtifactStore` says; copies in local caches are evicted in their own time."""
        if not is_digest(digest):
            return True
        key = _key(digest, kind)
        if kind is ArtifactKind.FILE:
            self._bucket.delete(key)
            return True
        # Without its manifest it is invisible; what a kill leaves of it is listed all the same.
        self._bucket.delete(_manifest_key(digest, kind))
        for found in list(self._bucket.list(f"{key}/")):
            self._bucket.delete(found.key)
        return True

    def list(self) -> Iterator[Artifact]:
        """As `ArtifactStore` says."""
        for folder, kind in _KINDS.items():
            found: dict[Digest, Artifact] = {}
            for stored in self._bucket.list(f"{folder}/"):
                digest = Digest(stored.key.split("/")[1])
                before = found.get(digest)
                found[digest] = Artifact(
                    digest=digest,
                    kind=kind,
                    size_bytes=stored.size + (before.size_bytes if before else 0),
                    modified_at=max(stored.modified_at, before.modified_at if before else 0.0),
                )
            yield from (artifact for digest, artifact in found.items() if is_digest(digest))

    def _fetch(self, digest: Digest, kind: ArtifactKind) -> Path:
        return self._caches[kind].fetch(checked(digest), _Remote(self._objects, kind))

    def _publish(self, sources: Mapping[str, Path], kind: ArtifactKind) -> Digest:
        manifest = manifest_of(sources)
        key = _key(manifest.digest, kind)
        for entry in manifest.files:
            part = f"{key}/{entry.name}"
            if not self._objects.holds(part, entry.sha256, entry.size):
                with opened(sources[entry.name]) as file:
                    self._objects.write(part, file, entry.sha256, entry.size)
        self._put_manifest(_manifest_key(manifest.digest, kind), manifest)
        return manifest.digest

    def _put_manifest(self, key: str, manifest: Manifest) -> None:
        """Last of all, and unless there is one: a visible adapter is not touched again."""
        content = manifest.to_bytes()
        if self._has_conditional_puts():
            self._bucket.put_new(key, content)
            if self._objects.holds(key, manifest.digest, len(content)):
                return
        # No conditional puts, or other bytes than ours there: a damaged manifest is mended.
        self._objects.write(key, io.BytesIO(content), manifest.digest, len(content))

    def _has_conditional_puts(self) -> bool:
        if self._conditional is None:
            self._conditional = self._bucket.honours_put_new()
            if not self._conditional:
                _log.warning(
                    "the object storage ignores conditional puts (If-None-Match): manifests are "
                    "put plainly; equal bytes under equal keys keep this safe"
                )
        return self._conditional

    def _unnamed(self) -> BinaryIO:
        return tempfile.TemporaryFile(dir=self._scratch)


class _Remote:
    """`cache.Source`: where a cache gets one kind of directory from."""

    def __init__(self, objects: VerifiedObjects, kind: ArtifactKind) -> None:
        self._objects = objects
        self._kind = kind

    def manifest(self, digest: Digest) -> Manifest:
        return self._objects.manifest(_manifest_key(digest, self._kind), digest)

    def download(self, digest: Digest, entry: ManifestEntry, into: Path) -> None:
        key = f"{_key(digest, self._kind)}/{entry.name}"
        try:
            with into.open("w+b") as file:
                whole = self._objects.read(key, entry.sha256, entry.size, file)
        except NotFound:
            raise damaged(entry.name, "is missing") from None
        if not whole:
            raise damaged(entry.name, "differs from its digest")


def _key(digest: Digest, kind: ArtifactKind) -> str:
    return f"{_FOLDERS[kind]}/{checked(digest)}"


def _manifest_key(digest: Digest, kind: ArtifactKind) -> str:
    return f"{_key(digest, kind)}/{MANIFEST_FILE}"
