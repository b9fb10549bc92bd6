"""Opens the artifact store that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adapters.settings import Settings
from adapters.store.folder import FolderStore
from adapters.store.port import ArtifactStore

if TYPE_CHECKING:
    from adapters.store.bucket import Patience


def open_store(settings: Settings, *, patience: Patience | None = None) -> ArtifactStore:
    """The folder or bucket of `WARDROBE_ARTIFACTS`; the state folder's where it is empty.

    Blocks: it makes folders, and asks object storage what it can do. Raises InvalidRequest for a
    URL or bucket that cannot be used, Unavailable where it refuses us, OSError.
    """
    folder = settings.state_folder
    if not settings.artifacts:
        return FolderStore(folder.artifacts)
    if "://" not in settings.artifacts:
        return FolderStore(Path(settings.artifacts).expanduser())
    from adapters.store.bucket import Bucket, Patience
    from adapters.store.cache import DirectoryCache
    from adapters.store.object_store import ObjectStore

    cache, most = folder.artifact_cache, int(settings.artifact_cache_gib * (1 << 30))
    return ObjectStore(
        Bucket(settings.artifacts, patience=patience or Patience()),
        adapters=DirectoryCache(cache, max_bytes=most),
        bases=DirectoryCache(settings.cache.expanduser() / "bases", max_bytes=None),
        datasets=DirectoryCache(cache / "datasets", max_bytes=most),
        scratch=cache / "scratch",
    )
