"""What the service and the trainer need of the artifact store, as one Protocol.

Implemented by `adapters.store.folder` (a folder) and `adapters.store.object_store` (object storage
with a local cache); both pass `tests/adapters/store/`. An artifact is there whole and verified, or
not at all, and what is read is checked against its digest. All methods block on disk or network;
a store is safe to use from several threads and processes.

Every method may also raise Unavailable (the storage cannot be reached or refuses us; nothing is
visible half done, and the same call may work later), StorageFull (no room here or there) and
OSError (a local disk fails).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol

from adapters.domain.names import Digest


class ArtifactKind(StrEnum):
    """What an artifact is. A digest stands for one artifact within its kind."""

    FILE = "file"
    """One blob: an uploaded file or a result, under the SHA-256 of its bytes."""
    ADAPTER = "adapter"
    """An adapter's directory, under the SHA-256 of its manifest."""
    BASE = "base"
    """A base model's directory, under the SHA-256 of its manifest."""
    DATASET = "dataset"
    """What a job is trained on and measured by: a directory, likewise."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One line of a store's list."""

    digest: Digest
    kind: ArtifactKind
    size_bytes: int
    modified_at: float
    """Unix seconds of the newest change, by the storage's clock."""


class ArtifactStore(Protocol):
    """Files (single blobs); adapters, bases and datasets (directories with a manifest)."""

    def put_file(self, chunks: Iterable[bytes], *, max_bytes: int) -> tuple[Digest, int]:
        """Stores a blob durably under its digest; the answer is (digest, bytes).

        Equal bytes are kept once. Raises TooLarge past `max_bytes`; nothing is left behind then.
        """
        ...

    def open_file(self, digest: Digest) -> BinaryIO:
        """The blob's bytes, all of them checked before the first is given.

        Raises NotFound, and Rejected (`file_damaged`) when they differ from the digest.
        """
        ...

    def publish_adapter(self, directory: Path) -> Digest:
        """Stores an admitted adapter directory durably; the answer is its manifest's digest.

        What was stored is read back and verified before the adapter becomes visible. Publishing
        the same bytes again returns the same digest. Raises Rejected for anything but regular
        files, and where a damaged copy was published before and cannot be mended.
        """
        ...

    def publish_base(self, directory: Path) -> Digest:
        """Stores a base model's files, as `publish_adapter` does an adapter's.

        Only files that hold weights, settings and tokenizers are taken; links are followed.
        Raises InvalidRequest where there are none.
        """
        ...

    def publish_dataset(self, directory: Path) -> Digest:
        """Stores a dataset's files, as `publish_adapter` does an adapter's."""
        ...

    def fetch(self, digest: Digest) -> Path:
        """An absolute local directory whose files match the adapter's manifest, verified.

        The files are read again only when something touched them. Blocks while they are
        downloaded, by this process or another. What is not pinned may be evicted at any time
        afterwards: `pin` first. Raises NotFound, and Rejected (`adapter_damaged`) when a file is
        missing or differs from its digest; StorageFull (`artifact_cache_full`) when pinned
        adapters leave no room for this one.
        """
        ...

    def fetch_base(self, digest: Digest) -> Path:
        """Like `fetch`, of a base. Bases are never evicted, so nobody pins them."""
        ...

    def fetch_dataset(self, digest: Digest) -> Path:
        """Like `fetch`, of a dataset. Nobody pins it: files that are open stay readable."""
        ...

    def pin(self, digest: Digest) -> None:
        """Keeps an adapter's local files until `release`, also one that is fetched only later.

        Counted: each `pin` needs its own `release`. Holds against other processes too, and ends
        with this process however it ends. Blocks only while another is evicting this adapter.
        """
        ...

    def release(self, digest: Digest) -> None:
        """Takes one `pin` back. Raises ValueError when there is none."""
        ...

    def has(self, digest: Digest, kind: ArtifactKind) -> bool:
        """Whether all files of the artifact are stored; their bytes are not read."""
        ...

    def delete(self, digest: Digest, kind: ArtifactKind) -> bool:
        """Deletes an artifact from the store; an unknown one is fine.

        Whoever calls this knows that nothing names the artifact any more (see `collector`).
        False when it was left because its local files are pinned.
        """
        ...

    def list(self) -> Iterator[Artifact]:
        """Everything that takes room, unfinished publishes included, in no order.

        What comes or goes meanwhile may be in it or not.
        """
        ...


@contextmanager
def pinned(store: ArtifactStore, digest: Digest) -> Iterator[Path]:
    """The adapter's verified local directory, kept while the body runs. Raises as `fetch` does."""
    store.pin(digest)
    try:
        yield store.fetch(digest)
    finally:
        store.release(digest)
