"""API keys as the registry keeps them: by their keyed hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from adapters.domain.principals import Key, NewKey, Principal


class Keys(Protocol):
    """Keeps who may call."""

    def add(self, keys: Sequence[NewKey]) -> Sequence[Key]:
        """All or none; bumps the revision. Raises Conflict (`key_exists`) for a known hash."""
        ...

    def bring(self, key: NewKey) -> Key:
        """Enters a key that an operator brings, and ends those brought for its owner before it.

        An owner is a role and its unit. A hash that is known answers with its record: one that is
        revoked, or is another owner's, ends nothing. Bumps the revision where something changes.
        """
        ...

    def find(self, key_hash: str) -> Key | None:
        """The key of this hash, revoked or not."""
        ...

    def active(self) -> Sequence[Key]:
        """Those not revoked, oldest first."""
        ...

    def revoke(self, key_id: str, *, by: Principal, reason: str | None = None) -> Key:
        """Ends a key; one that was revoked before keeps its first time. Raises NotFound.

        Bumps the revision where something changes.
        """
        ...

    def check_pepper(self, fingerprint: str) -> None:
        """The first fingerprint is kept. Raises Conflict (`pepper_changed`) for another one."""
        ...

    def reset(self, *, by: Principal, reason: str | None = None) -> int:
        """Revokes every key and forgets the pepper; how many were in force.

        Bumps the revision where there was one.
        """
        ...
