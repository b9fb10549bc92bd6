"""The registry: desired state, jobs, files and keys, as small ports over one database."""

from adapters.registry.registry import Registry

__all__ = ["Registry"]
