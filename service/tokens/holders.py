"""Tells who holds a bearer token, and what it grants.

A token is an answer of the issuer's about its holder and nothing else: it chooses neither the
algorithm nor the place of a key, and a claim of another type than it should be is no claim.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from adapters.domain.derived_keys import Purpose, derive
from adapters.domain.principals import Principal, Role, widened
from adapters.errors import InvalidKey, NotPermitted, Unavailable
from service.tokens.issuer import Issuer
from service.tokens.issuer_keys import IssuerKeys
from service.tokens.roles import granted

MAX_TOKEN = 8192
"""Bytes; a longer one is refused before it is parsed."""
MAX_KNOWN = 4096
"""Tokens whose signature is not verified again."""
LEEWAY_SECONDS = 30.0
"""How far the issuer's clock and ours may be apart."""
MAX_MOMENT = 2**53
"""Seconds since the epoch; a whole number beyond it is none that a clock is compared with."""
_TYPES = ("jwt", "at+jwt")
_BEGINS = b"eyJ"
"""Every JSON object in base64 begins so."""


Grants = Mapping[bytes, Principal]
"""Who a token's holder may ask as, by the unit's name."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    grants: Grants
    until: float
    generation: int


class TokenHolders:
    """Used on the event loop's thread; nothing here waits for the issuer."""

    def __init__(
        self,
        issuer: Issuer,
        keys: IssuerKeys,
        *,
        pepper: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.keys = keys
        self._issuer = issuer
        self._subject_key = derive(pepper, Purpose.TOKEN_SUBJECT)
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def principal(self, token: bytes, project: bytes | None = None) -> Principal | None:
        """Who holds it; None for what cannot be a token. Of several units, `project` says which.

        Raises InvalidKey, NotPermitted for one that grants nothing here, or more units than one
        where none of them is said, and Unavailable while the issuer's keys are read.
        """
        if not token.startswith(_BEGINS) or len(token) > MAX_TOKEN or token.count(b".") != 2:
            return None
        name, now = hashlib.sha256(token).digest(), self._clock()
        known = self._known.get(name)
        if known is None or now >= known.until or known.generation != self.keys.generation:
            claims = self._verified(token)
            known = _Known(
                grants=self._grants(claims),
                until=claims["exp"] + LEEWAY_SECONDS,
                generation=self.keys.generation,
            )
            self._remember(name, known)
        return _chosen(known.grants, project)

    def _remember(self, name: bytes, known: _Known) -> None:
        self._known[name] = known
        self._known.move_to_end(name)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _verified(self, token: bytes) -> Mapping[str, Any]:
        """The claims, every one of the type it must have."""
        try:
            header = jwt.get_unverified_header(token)
            key = self._key_of(header)
            claims = jwt.decode(
                token,
                key=key,
                algorithms=[self._issuer.algorithm],
                audience=self._issuer.audience,
                issuer=self._issuer.name,
                leeway=LEEWAY_SECONDS,
                options={"require": ["iss", "aud", "exp", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise _not_known() from None
        if not _typed(claims):
            raise _not_known()
        return claims

    def _key_of(self, header: Mapping[str, Any]) -> Any:
        """The key that the token says it is signed with; nothing else of its header counts."""
        kind, kid = header.get("typ"), header.get("kid")
        if not isinstance(kind, str) or kind.lower() not in _TYPES or not isinstance(kid, str):
            raise _not_known()
        if header.get("alg") != self._issuer.algorithm or "crit" in header:
            raise _not_known()
        key = self.keys.get(kid)
        if key is None:
            if self.keys.look_for_more() or not self.keys.readable:
                raise Unavailable("the issuer's keys are being read", code="issuer_unavailable")
            raise _not_known()
        return key

    def _grants(self, claims: Mapping[str, Any]) -> Grants:
        """One holder, once for each unit that it may ask as."""
        by_unit = granted(claims.get(self._issuer.claim), self._issuer.stands)
        who = f"{claims['iss']}\0{claims['sub']}".encode("utf-8", "surrogatepass")
        # whose it is can be told from another's, and from a person's name by nobody
        name = f"user_{hmac.digest(self._subject_key, who, 'sha256').hex()[:32]}"
        return {
            (unit or "").encode(): Principal(
                id=name,
                role=Role.ADMIN if unit is None else Role.UNIT,
                unit=unit,
                scopes=widened(scopes),
            )
            for unit, scopes in by_unit.items()
        }


def _chosen(grants: Grants, project: bytes | None) -> Principal:
    """The one that is asked as. Raises NotPermitted where it is not said which."""
    if len(grants) == 1:
        return next(iter(grants.values()))
    chosen = grants.get(project or b"")
    if chosen is None:
        raise NotPermitted(
            "this token is for several units: name one of them with the header `OpenAI-Project` "
            "(`project` of the SDK)"
        )
    return chosen


def _typed(claims: Mapping[str, Any]) -> bool:
    """Whether the claims that decide are of the types that they must have."""
    audience = claims["aud"]
    audiences = audience if isinstance(audience, list) else [audience]
    times = [claims[name] for name in ("exp", "nbf", "iat") if name in claims]
    texts = [claims["iss"], claims["sub"], *audiences]
    return all(isinstance(text, str) and 0 < len(text) <= 1024 for text in texts) and all(
        type(moment) in (int, float) and 0 <= moment < MAX_MOMENT for moment in times
    )


def _not_known() -> InvalidKey:
    """The same for every token that is none."""
    return InvalidKey("this key is not known")
