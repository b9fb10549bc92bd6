"""Which other units may be answered by a version; replicas route by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from adapters.domain.names import PermissionId, Unit, VersionId
from adapters.domain.pages import Page
from adapters.domain.permissions import Permission
from adapters.domain.principals import Principal


class Permissions(Protocol):
    """Keeps permissions. Whoever gives or ends one must see every unit; else NotPermitted."""

    def grant(
        self, version_id: VersionId, units: Sequence[Unit], principal: Principal
    ) -> Sequence[Permission]:
        """One for each unit, in their order; one that is there already is answered as it is.

        Bumps the revision where one is new. Raises NotFound; Conflict (`version_retired`,
        `version_rejected`).
        """
        ...

    def list(
        self,
        version_id: VersionId,
        principal: Principal,
        *,
        unit: Unit | None,
        after: str | None,
        limit: int,
        newest_first: bool,
    ) -> Page[Permission]:
        """Of one version; of one unit alone where it is named. Raises NotFound."""
        ...

    def withdraw(
        self,
        version_id: VersionId,
        permission_id: PermissionId,
        principal: Principal,
        *,
        reason: str | None = None,
    ) -> None:
        """Ends a permission; bumps the revision. Raises NotFound when unknown or another
        version's.
        """
        ...
