"""Fetches an issuer's public keys. Blocks: never called on the event loop.

The address comes from the settings, or from the discovery document of the issuer that they name;
nothing of a token says where a key is. No redirect is followed, and what is read is bounded in
size and time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import jwt
from pydantic_core import from_json

from adapters.errors import InvalidRequest, Unavailable
from service.tokens.issuer import KEY_TYPES, Issuer, check_address

DEADLINE_SECONDS = 10.0
MAX_DOCUMENT = 256 * 1024
MAX_KEYS = 64
MAX_KID = 256
MIN_RSA_BITS = 2048

_PLAIN = {"Accept": "application/json", "Accept-Encoding": "identity"}

PublicKeys = Mapping[str, Any]
"""`kid` → public key of `cryptography`; never a JWK, whose own `alg` a library might believe."""


def fetch_keys(issuer: Issuer, *, clock: Callable[[], float] = time.monotonic) -> PublicKeys:
    """Its keys by their ids. Raises Unavailable where there are none to be had."""
    url = issuer.keys_url or _discovered(issuer, clock)
    found = _document(url, clock).get("keys")
    if not isinstance(found, list):
        raise _unusable()
    keys: dict[str, Any] = {}
    for jwk in found[:MAX_KEYS]:
        kid = jwk.get("kid") if isinstance(jwk, dict) else None
        if not isinstance(kid, str) or not 1 <= len(kid) <= MAX_KID:
            continue
        key = _public_key(jwk, issuer.algorithm)
        if key is not None:
            keys[kid] = key
    if not keys:
        raise _unusable()
    return keys


def _discovered(issuer: Issuer, clock: Callable[[], float]) -> str:
    """Where its discovery document says that its keys are."""
    document = _document(f"{issuer.name.rstrip('/')}/.well-known/openid-configuration", clock)
    url = document.get("jwks_uri")
    if document.get("issuer") != issuer.name or not isinstance(url, str):
        raise _unusable()
    try:
        check_address(url, "jwks_uri")
    except InvalidRequest:
        raise _unusable() from None
    return url


def _document(url: str, clock: Callable[[], float]) -> Mapping[str, Any]:
    """The JSON object at this address. Raises Unavailable."""
    until, content = clock() + DEADLINE_SECONDS, b""
    try:
        with (
            httpx2.Client(timeout=DEADLINE_SECONDS / 2, follow_redirects=False) as client,
            client.stream("GET", url, headers=_PLAIN) as answer,
        ):
            if answer.status_code != 200:
                raise _unusable()
            for chunk in answer.iter_raw():  # what is packed may be any size
                content += chunk
                if len(content) > MAX_DOCUMENT or clock() > until:
                    raise _unusable()
        document = from_json(content)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
        raise _unusable() from None
    if not isinstance(document, dict):
        raise _unusable()
    return document


def _public_key(jwk: Mapping[str, Any], algorithm: str) -> Any:
    """The key, where it is one that verifies this algorithm's signatures; else None."""
    if jwk.get("kty") != KEY_TYPES[algorithm] or jwk.get("use", "sig") != "sig":
        return None
    if jwk.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK.from_dict(dict(jwk), algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if hasattr(key, "private_bytes"):  # published by mistake: it proves nothing any more
        return None
    too_short = KEY_TYPES[algorithm] == "RSA" and key.key_size < MIN_RSA_BITS
    return None if too_short else key


def _unusable() -> Unavailable:
    return Unavailable("the issuer's keys cannot be had now", code="issuer_unavailable")
