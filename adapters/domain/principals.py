"""Principals, and their API keys: made from 256 random bits, shown once, kept as keyed hashes.

A fast keyed hash is right for a secret of full entropy; every bearer is hashed before it is
looked up, so that no raw text of a caller reaches the registry.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import StrEnum

from adapters.domain.names import Unit

PREFIX = "wr"
MAX_BEARER = 256
"""Characters; a longer bearer is refused before it is hashed."""
MIN_BROUGHT = 16
"""Characters of a key that an operator brings; a shorter one can be guessed."""

MIN_PEPPER = 32
"""Bytes of a pepper that an operator brings."""


class Role(StrEnum):
    """What a principal is for."""

    ADMIN = "admin"
    """Every unit, and the metrics."""
    UNIT = "unit"
    """One unit: its aliases, files, jobs and versions."""
    TRAINER = "trainer"
    """Names any version, to evaluate it; sees and changes nothing else over HTTP."""
    SYSTEM = "system"
    """Wardrobe's own processes beside the registry; no key ever has this role."""


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks: a key's holder, a job, or Wardrobe's own processes."""

    id: str
    """A key's or a job's id, or `system`: the actor in histories."""
    role: Role
    unit: Unit | None

    @property
    def owner(self) -> str:
        """Whose shares and whose cache it uses. Typed, for a unit may be called like a role."""
        return f"unit:{self.unit}" if self.unit is not None else f"role:{self.role}"

    def may_act_for(self, unit: str) -> bool:
        """Whether this principal may see and change what belongs to `unit`."""
        if self.role is Role.UNIT:
            return self.unit == unit
        return self.role in (Role.ADMIN, Role.SYSTEM)

    def may_infer_for(self, unit: str) -> bool:
        """Whether this principal may be answered by versions of `unit`."""
        return self.role is Role.TRAINER or self.may_act_for(unit)


SYSTEM = Principal(id="system", role=Role.SYSTEM, unit=None)
"""The service's own tasks and the trainer's, which reach the registry without a key."""


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key on its way into the registry, which gives the time."""

    id: str
    role: Role
    unit: Unit | None
    hash: str


@dataclass(frozen=True, kw_only=True)
class Key(NewKey):
    """What is kept of a key."""

    created_at: float
    revoked_at: float | None = None


def hash_key(secret: str, *, pepper: bytes) -> str:
    """HMAC-SHA-256 of the whole key under the registry's pepper, in hex."""
    return hmac.new(pepper, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def make_secret(role: Role, unit: Unit | None) -> str:
    """A key nobody has yet; it begins with `PREFIX`."""
    return f"{PREFIX}-{unit or role}-{secrets.token_urlsafe(32)}"


def make_key(
    role: Role, unit: Unit | None, *, pepper: bytes, secret: str | None = None
) -> tuple[str, NewKey]:
    """A key and its record. `secret` is given where the key is there already."""
    secret = secret or make_secret(role, unit)
    record = NewKey(
        id=f"key_{secrets.token_hex(8)}",
        role=role,
        unit=unit,
        hash=hash_key(secret, pepper=pepper),
    )
    return secret, record
