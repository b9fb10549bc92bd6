"""The key table: turns a key's hash into its holder, until the key ends.

A part of the route table, which changes it in one go with everything else of a revision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from adapters.domain.api_keys import Key
from adapters.domain.principals import Principal


class Holder(NamedTuple):
    """Who has a key, and until when."""

    principal: Principal
    expires_at: float | None
    name: str | None
    """Which of its unit's holders has it."""


class KeyTable:
    """Holds the keys that are in force, by their hashes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` says when a key has expired, in seconds since the epoch."""
        self._clock = clock
        self._holders: dict[str, Holder] = {}
        self._old_hashes: set[str] = set()

    def clear(self) -> None:
        """Forgets all of them."""
        self._holders.clear()
        self._old_hashes.clear()

    def apply(self, key: Key) -> None:
        """Takes over what the registry says of a key."""
        if key.revoked_at is None:
            self._holders[key.hash] = Holder(key.principal(), key.expires_at, key.name)
            if key.hash_version == 1:
                self._old_hashes.add(key.hash)
        else:
            self._holders.pop(key.hash, None)
            self._old_hashes.discard(key.hash)

    @property
    def knows_old_hashes(self) -> bool:
        """Whether keys are in force that were hashed as earlier builds did."""
        return bool(self._old_hashes)

    def principal(self, key_hash: str) -> Principal | None:
        """Whose key it is; None when it is unknown, revoked or expired."""
        found = self._holders.get(key_hash)
        if found is None:
            return None
        principal, expires_at, _ = found
        expired = expires_at is not None and self._clock() >= expires_at
        return None if expired else principal

    @property
    def principals(self) -> Sequence[Principal]:
        """The holders of all keys in force."""
        return [holder.principal for holder in self._holders.values()]

    def ending(self, within_s: float) -> Sequence[Principal]:
        """Holders, each once, whose last key ends within so many seconds. A key that another of its
        holder's outlives is being rotated.
        """
        now = self._clock()
        last: dict[tuple[str, str | None], tuple[float, Principal]] = {}
        for principal, expires_at, name in self._holders.values():
            ends = math.inf if expires_at is None else expires_at
            holder = (str(principal.unit or principal.role), name)
            if ends > now and (holder not in last or ends > last[holder][0]):
                last[holder] = (ends, principal)
        return [principal for ends, principal in last.values() if ends <= now + within_s]
