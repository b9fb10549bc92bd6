"""The identity provider, as the settings name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from adapters.errors import InvalidRequest
from adapters.settings import Settings
from service.tokens.roles import NOTHING, Stands, parse_stands

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
KEY_TYPES: Mapping[str, str] = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "ES256": "EC",
    "ES384": "EC",
    "EdDSA": "OKP",
}
"""The kind of key that each algorithm verifies with; none is a shared secret."""


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """Whose tokens are taken, for whom they must be, and by what they are signed."""

    name: str
    """The claim `iss`, to the letter."""
    audience: str
    algorithm: str
    claim: str
    """Where the roles stand."""
    stands: Stands = field(default_factory=lambda: NOTHING)
    keys_url: str
    """Of its key set; empty is what its discovery document says."""


def issuer_of(settings: Settings) -> Issuer | None:
    """The issuer of the settings; None where there is none. Raises InvalidRequest."""
    if not settings.oidc_issuer:
        return None
    if not settings.oidc_audience:
        raise InvalidRequest(
            "WARDROBE_OIDC_ISSUER needs WARDROBE_OIDC_AUDIENCE: a token for somebody else is no "
            "token for this service"
        )
    check_address(settings.oidc_issuer, "WARDROBE_OIDC_ISSUER")
    if settings.oidc_jwks_url:
        check_address(settings.oidc_jwks_url, "WARDROBE_OIDC_JWKS_URL")
    return Issuer(
        name=settings.oidc_issuer,
        audience=settings.oidc_audience,
        algorithm=settings.oidc_algorithm,
        claim=settings.oidc_claim,
        stands=parse_stands(settings.oidc_roles),
        keys_url=settings.oidc_jwks_url,
    )


def check_address(url: str, what: str) -> None:
    """Raises InvalidRequest for what is not HTTPS, but on this machine itself."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise InvalidRequest(f"{what} is no address") from None
    secure = parts.scheme == "https" or (
        parts.scheme == "http" and host in ("127.0.0.1", "::1", "localhost")
    )
    if not host or not secure or parts.username is not None:
        raise InvalidRequest(f"{what} must be an https:// address without a user")
