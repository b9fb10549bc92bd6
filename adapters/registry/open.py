"""One address in, one registry out."""

from __future__ import annotations

from adapters.registry.memory import MemoryRegistry
from adapters.registry.port import Registry
from adapters.registry.sql import SqlRegistry


def open_registry(url: str) -> Registry:
    """`sqlite:///<path>`, or `memory:` for a registry that ends with the process.

    Brings an older schema up to date first. Raises InvalidRequest for an address of another kind,
    Conflict when a newer build has used the database (`schema_newer`) or a newer SQLite holds it
    in a mode that is not safe here (`journal_mode`), Unavailable, StorageFull.
    """
    if url == "memory:":
        return MemoryRegistry()
    return SqlRegistry(url)
