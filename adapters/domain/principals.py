"""API keys: made from 256 random bits, shown once, kept as keyed hashes.

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


class Role(StrEnum):
    """What a key is for."""

    ADMIN = "admin"
    """Every unit, and the metrics."""
    UNIT = "unit"
    """One unit: its aliases, files, jobs and versions."""
    TRAINER = "trainer"
    """Names any version, to evaluate it; changes nothing."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is kept of a key."""

    id: str
    role: Role
    unit: Unit | None
    hash: str
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who a request comes from, once its key is known."""

    key_id: str
    role: Role
    unit: Unit | None

    def may_act_for(self, unit: str) -> bool:
        """Whether this caller may see and change what belongs to `unit`."""
        return self.role is Role.ADMIN or (self.role is Role.UNIT and self.unit == unit)

    def may_infer_for(self, unit: str) -> bool:
        """Whether this caller may be answered by versions of `unit`."""
        return self.role is Role.TRAINER or self.may_act_for(unit)


def hash_key(secret: str, *, pepper: bytes) -> str:
    """HMAC-SHA-256 of the whole key under the state folder's pepper, in hex."""
    return hmac.new(pepper, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def make_secret(role: Role, unit: Unit | None) -> str:
    """A key nobody has yet; it begins with `PREFIX`."""
    return f"{PREFIX}-{unit or role}-{secrets.token_urlsafe(32)}"


def make_key(
    role: Role, unit: Unit | None, *, pepper: bytes, at: float, secret: str | None = None
) -> tuple[str, Key]:
    """A key and its record. `secret` is given where the key is there already."""
    secret = secret or make_secret(role, unit)
    record = Key(
        id=f"key_{secrets.token_hex(8)}",
        role=role,
        unit=unit,
        hash=hash_key(secret, pepper=pepper),
        created_at=at,
    )
    return secret, record
