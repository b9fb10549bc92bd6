"""Approvals: what people say of versions before they go live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from adapters.domain.approvals import Approval, Verdict
from adapters.domain.names import VersionId
from adapters.domain.principals import Principal


class Approvals(Protocol):
    """Keeps the last word of each person on each version."""

    def decide(
        self,
        version_id: VersionId,
        verdict: Verdict,
        principal: Principal,
        *,
        reason: str | None = None,
    ) -> Approval:
        """Keeps what the principal says, in the place of what they said before.

        Repeating it changes nothing. Moves no route: what is live stays so. Raises NotFound,
        NotPermitted (`approval_by_author`), Conflict (`version_rejected`, `version_retired`).
        """
        ...

    def withdraw_rejection(
        self, version_id: VersionId, actor: str, principal: Principal, *, reason: str | None = None
    ) -> Sequence[Approval]:
        """Forgets that `actor`, or another key's id of the same holder, rejects a version; what is
        left.

        For admins. Where nobody of that id rejects it nothing changes. Raises NotFound,
        NotPermitted (`approval_by_author`), Conflict (`version_rejected`, `version_retired`).
        """
        ...

    def of(self, version_id: VersionId) -> Sequence[Approval]:
        """What was said of a version, oldest first."""
        ...
