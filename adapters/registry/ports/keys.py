"""API keys as the registry keeps them: by their keyed hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from adapters.domain.api_keys import Key, NewKey
from adapters.domain.pages import Page
from adapters.domain.principals import Principal


class Keys(Protocol):
    """Keeps who may call. An owner of keys is a role, its unit and a name.

    Whoever gives or ends a key must see every unit; else NotPermitted is raised.
    """

    def add(self, keys: Sequence[NewKey]) -> Sequence[Key]:
        """All or none; bumps the revision. Raises Conflict (`key_exists`) for a known hash."""
        ...

    def bring(self, key: NewKey) -> Key:
        """Enters a key that an operator brings, and ends those brought for its owner before it.

        A hash that is known answers with its record: one that is revoked, or is another owner's,
        ends nothing. Bumps the revision where something changes.
        """
        ...

    def issue(self, key: NewKey, *, by: Principal, idempotency_key: str | None) -> Key:
        """Enters a key for a named holder, and bumps the revision.

        The same idempotency key, principal and words find the key that was issued first: it has
        another id than `key`, and its secret is not known any more. Raises Conflict
        (`too_many_keys` where the owner has two in force, `idempotency_key_reused`).
        """
        ...

    def rotate(
        self,
        key_id: str,
        successor: NewKey,
        *,
        overlap_s: float,
        by: Principal,
        idempotency_key: str | None,
    ) -> Key:
        """Enters the key that follows another, which expires `overlap_s` later, as `issue` does.

        `successor` has the other's grant and name. Raises NotFound, Conflict (also `key_ended`,
        and `key_not_rotatable` for a key that was brought or is kept in a file).
        """
        ...

    def find(self, key_hash: str) -> Key | None:
        """The key of this hash, in force or not."""
        ...

    def get(self, key_id: str) -> Key:
        """The key of this id, in force or not. Raises NotFound."""
        ...

    def active(self) -> Sequence[Key]:
        """Those in force, oldest first."""
        ...

    def list(self, *, after: str | None, limit: int) -> Page[Key]:
        """Those in force, newest first. `after` is a key's id, also of one that has ended."""
        ...

    def revoke(self, key_id: str, *, by: Principal, reason: str | None = None) -> Key:
        """Ends a key; one that was revoked before keeps its first time. Raises NotFound.

        Bumps the revision where something changes.
        """
        ...

    def note_used(self, key_ids: Sequence[str]) -> None:
        """Notes, to the hour, that these were used; no replica routes by it."""
        ...

    def check_pepper(self, fingerprint: str) -> None:
        """The first fingerprint is kept. Raises Conflict (`pepper_changed`) for another one."""
        ...

    def reset(self, *, by: Principal, reason: str | None = None) -> int:
        """Revokes every key and forgets the pepper; how many were in force.

        Bumps the revision where there was one.
        """
        ...
