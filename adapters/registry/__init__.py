"""The registry: desired state and history, in one database that all processes share."""

from adapters.registry.open import open_registry
from adapters.registry.port import (
    NewVersion,
    Registry,
    ReplicaReport,
    Snapshot,
)

__all__ = ["NewVersion", "Registry", "ReplicaReport", "Snapshot", "open_registry"]
