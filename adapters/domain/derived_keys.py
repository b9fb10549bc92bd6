"""Derives a key for each purpose from one secret: HKDF with SHA-256 (RFC 5869).

So no value that is made for one purpose is ever one of another's.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum

_SIZE = hashlib.sha256().digest_size


class Purpose(StrEnum):
    """What a derived key is for; the words are part of the derivation and never change."""

    API_KEYS = "wardrobe api keys v2"
    """Hashes API keys."""
    CACHE_SALT = "wardrobe cache salt v2"
    """Keeps one unit's prefix cache from another's view."""
    CANARY_LOT = "wardrobe canary lot v1"
    """Draws who is answered by a canary."""
    TOKEN_SUBJECT = "wardrobe token subject v1"  # noqa: S105 - a label, no secret
    """Names who holds a token, without telling."""


def derive(secret: bytes, purpose: Purpose) -> bytes:
    """32 bytes for this purpose. No salt: the secret is random and has its full length."""
    extracted = hmac.digest(bytes(_SIZE), secret, "sha256")
    return hmac.digest(extracted, purpose.encode() + b"\x01", "sha256")
