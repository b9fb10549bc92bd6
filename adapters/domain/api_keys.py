"""API keys: made from 256 random bits, shown once, kept as keyed hashes.

A fast keyed hash is right for a secret of full entropy; every bearer is hashed before it is
looked up, so that no raw text of a caller reaches the registry. Keys of earlier builds were hashed
under the pepper itself, and stay valid; newer ones under a key that is derived for this purpose.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, replace

from adapters.domain.derived_keys import Purpose, derive
from adapters.domain.limits import NO_KEY_LIMITS, KeyLimits
from adapters.domain.names import Unit, is_name
from adapters.domain.principals import (
    KEY_ID,
    OF_A_UNIT,
    OF_THE_WHOLE,
    Grant,
    Principal,
    Role,
    Scope,
    widened,
)
from adapters.errors import InvalidRequest

PREFIX = "wr"
MAX_BEARER = 256
"""Characters; a longer key is refused before it is hashed."""
MIN_BROUGHT = 16
"""Characters of a key that an operator brings; a shorter one can be guessed."""
MIN_PEPPER = 32
"""Bytes of a pepper that an operator brings."""

MAX_LIVE = 2
"""Keys in force that one owner may have: the old one and the new, while it is rotated."""
DAY_S = 86_400.0
DEFAULT_LIFETIME_S = 365 * DAY_S
MAX_LIFETIME_S = 10 * DEFAULT_LIFETIME_S
MIN_LIFETIME_S = 60.0
DEFAULT_OVERLAP_S = DAY_S
"""How long a rotated key stays valid beside its successor."""
MAX_OVERLAP_S = 30 * DAY_S

METRICS_NAME = "metrics key"
"""The name of the metrics' key that an operator brings; no command can give it to another."""


@dataclass(frozen=True, kw_only=True)
class _Kept(Grant):
    id: str
    hash: str
    hash_version: int = 2
    """1: under the pepper itself; 2: under the key derived from it."""
    name: str | None = None
    """Which of its unit's holders it belongs to; None for the one that the service knows from its
    start.
    """
    limits: KeyLimits = NO_KEY_LIMITS
    """Its own, within its unit's."""

    @property
    def owner(self) -> tuple[Role, Unit | None, str | None]:
        """Whose key it is."""
        return self.role, self.unit, self.name

    @property
    def issued(self) -> bool:
        """Whether it was made by command for a named holder."""
        return self.name is not None and is_name(self.name)


@dataclass(frozen=True, kw_only=True)
class NewKey(_Kept):
    """A key on its way into the registry, which gives the time."""

    expires_in: float | None = None
    """Seconds; None is never."""


@dataclass(frozen=True, kw_only=True)
class Key(_Kept):
    """What is kept of a key."""

    created_at: float
    created_by: str | None = None
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    """To the hour."""

    def principal(self) -> Principal:
        """Who asks with it."""
        return Principal(
            id=self.id,
            role=self.role,
            unit=self.unit,
            scopes=None if self.scopes is None else widened(self.scopes),
            aliases=self.aliases,
            limits=self.limits,
        )

    def in_force(self, now: float) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class KeyHasher:
    """Hashes bearers under one pepper."""

    def __init__(self, pepper: bytes) -> None:
        # a MAC whose key is in it already: half the price of one from the start
        self._started = hmac.new(derive(pepper, Purpose.API_KEYS), digestmod="sha256")
        self._started_by_earlier_builds = hmac.new(pepper, digestmod="sha256")

    def hash(self, secret: str) -> str:
        """HMAC-SHA-256 of the whole key, in hex."""
        return _finished(self._started, secret)

    def hash_of_earlier_builds(self, secret: str) -> str:
        """The same as builds before the second version made it."""
        return _finished(self._started_by_earlier_builds, secret)


def _finished(started: hmac.HMAC, secret: str) -> str:
    mac = started.copy()
    mac.update(secret.encode("utf-8", "surrogatepass"))
    return mac.hexdigest()


def hash_key(secret: str, *, pepper: bytes) -> str:
    """The hash of one key; who hashes many keeps a `KeyHasher`."""
    return KeyHasher(pepper).hash(secret)


def make_secret(role: Role, unit: Unit | None) -> str:
    """A key nobody has yet; it begins with `PREFIX`."""
    return f"{PREFIX}-{unit or role}-{secrets.token_urlsafe(32)}"


def make_key(
    role: Role, unit: Unit | None, *, pepper: bytes, secret: str | None = None
) -> tuple[str, NewKey]:
    """A key with all that its role may have. `secret` is given where the key is there already."""
    secret = secret or make_secret(role, unit)
    record = NewKey(
        id=f"{KEY_ID}{secrets.token_hex(8)}",
        role=role,
        unit=unit,
        hash=hash_key(secret, pepper=pepper),
    )
    return secret, record


def issue(
    grant: Grant,
    name: str,
    *,
    lifetime_s: float,
    pepper: bytes,
    limits: KeyLimits = NO_KEY_LIMITS,
) -> tuple[str, NewKey]:
    """A key for a named holder.

    Raises InvalidRequest for what is no grant, name or lifetime, and for limits of what it may not.
    """
    check_grant(grant)
    _check_limits(grant, limits)
    if not is_name(name):
        raise InvalidRequest(
            "`name` must be 1 to 40 of a-z, 0-9 and -, beginning with a letter", param="name"
        )
    if not MIN_LIFETIME_S <= lifetime_s <= MAX_LIFETIME_S:
        raise InvalidRequest(
            f"`expires_in` must be {MIN_LIFETIME_S:.0f} to {MAX_LIFETIME_S:.0f} seconds",
            param="expires_in",
        )
    secret, record = make_key(grant.role, grant.unit, pepper=pepper)
    return secret, replace(
        record,
        name=name,
        scopes=grant.scopes,
        aliases=grant.aliases,
        expires_in=lifetime_s,
        limits=limits,
    )


def succeed(key: Key, *, pepper: bytes) -> tuple[str, NewKey]:
    """The key that follows this one: the same grant, limits, name and lifetime."""
    secret, record = make_key(key.role, key.unit, pepper=pepper)
    lifetime = None if key.expires_at is None else key.expires_at - key.created_at
    return secret, replace(
        record,
        name=key.name,
        scopes=key.scopes,
        aliases=key.aliases,
        expires_in=lifetime,
        limits=key.limits,
    )


def _check_limits(grant: Grant, limits: KeyLimits) -> None:
    asks = grant.may(Scope.INFER) or grant.may(Scope.BASE)
    if limits.said and (grant.unit is None or not asks):
        raise InvalidRequest(
            "`limits` are those of a unit's key that asks models: name the `unit`, and the scope "
            "`infer` or `base`",
            param="limits",
        )


def check_grant(grant: Grant) -> None:
    """Raises InvalidRequest where it grants nothing, or more than its role may have."""
    scopes = grant.scopes
    if not scopes:
        raise InvalidRequest("a key needs at least one scope", param="scopes")
    allowed = OF_THE_WHOLE if grant.unit is None else OF_A_UNIT
    if wrong := sorted(scopes - allowed):
        whose = "about all units" if grant.unit is not None else "about one unit"
        raise InvalidRequest(
            f"the scope `{wrong[0]}` is {whose}: "
            + ("leave `unit` out" if grant.unit is not None else "name the `unit`"),
            param="scopes",
        )
    if grant.aliases is not None and (Scope.INFER not in scopes or not grant.aliases):
        raise InvalidRequest(
            "`aliases` are those that the scope `infer` is about: name both, or neither",
            param="aliases",
        )
