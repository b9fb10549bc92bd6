"""The artifact store: bytes that are addressed by digest and never change or move."""

from adapters.store.folder import LocalStore
from adapters.store.memory import MemoryStore
from adapters.store.port import ArtifactStore

__all__ = ["ArtifactStore", "LocalStore", "MemoryStore"]
