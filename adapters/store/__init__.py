"""The artifact store: bytes that are addressed by digest and never change or move."""

from adapters.store.folder import FolderStore
from adapters.store.port import Artifact, ArtifactKind, ArtifactStore, pinned

__all__ = ["Artifact", "ArtifactKind", "ArtifactStore", "FolderStore", "pinned"]
