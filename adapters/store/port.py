"""What the service and the trainer need of the artifact store, as one Protocol.

Implemented by `adapters.store.folder` (a folder) and `adapters.store.memory` (the twin for fast
tests); both pass `tests/adapters/store/`. Publishing is atomic: an artifact is there whole
and verified, or not at all. All methods block.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

from adapters.domain.names import Digest


class ArtifactStore(Protocol):
    """Files (single blobs) and adapters (directories with a manifest)."""

    def put_file(self, chunks: Iterable[bytes], *, max_bytes: int) -> tuple[Digest, int]:
        """Stores a blob under its digest; the answer is (digest, bytes). Equal bytes are kept once.

        Raises TooLarge past `max_bytes` and StorageFull; nothing is left behind then.
        """
        ...

    def open_file(self, digest: Digest) -> BinaryIO:
        """Raises NotFound."""
        ...

    def delete_file(self, digest: Digest) -> None:
        """Unknown digests are fine."""
        ...

    def publish_adapter(self, directory: Path) -> Digest:
        """Copies an admitted adapter directory in; the answer is the digest of its manifest.

        Staged, fsynced, read back and verified, then renamed into place. Publishing the same bytes
        again returns the same digest. Raises StorageFull; nothing is visible then.
        """
        ...

    def adapter_path(self, digest: Digest) -> Path:
        """An absolute local directory whose files match the manifest, verified when it matters.

        Raises NotFound, and Rejected when a file is missing or differs from its digest.
        """
        ...

    def fetch(self, digest: Digest) -> Path:
        """`adapter_path`, whatever it takes to have it here."""
        ...

    def pin(self, digest: Digest) -> None:
        """Keeps an adapter's local files until `release`."""
        ...

    def release(self, digest: Digest) -> None:
        """Takes one `pin` back."""
        ...
