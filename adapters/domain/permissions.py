"""Permissions: which other unit may be answered by a version, under the version's own name."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.domain.names import PermissionId, Unit, VersionId


@dataclass(frozen=True, kw_only=True)
class Permission:
    """Lets `unit`, which is not the version's own, be answered by the version; nothing else."""

    id: PermissionId
    version_id: VersionId
    unit: Unit
    created_at: float
