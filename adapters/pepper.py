"""The pepper: the secret under the hashes of all keys of one registry.

On one machine it is made once and kept in the state folder. Replicas that share a registry are
brought the same one, because none of them would know the others' keys otherwise.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from adapters.domain.api_keys import MIN_PEPPER
from adapters.errors import InvalidRequest
from adapters.settings import Settings


def find_pepper(settings: Settings) -> bytes:
    """The pepper that was brought, else the state folder's, which is made where there is none.

    Raises InvalidRequest when it is brought twice, cannot be read or is too short, and when none
    is brought for a registry that other machines may use; OSError.
    """
    given, path = settings.pepper, settings.pepper_file
    if given is not None and path is not None:
        raise InvalidRequest("set WARDROBE_PEPPER or WARDROBE_PEPPER_FILE, not both")
    if given is not None:
        return _checked(given.get_secret_value().encode("utf-8", "surrogateescape"))
    if path is not None:
        return _checked(_read(path))
    if settings.shares_registry:
        raise InvalidRequest(
            "bring the pepper (WARDROBE_PEPPER_FILE), the same to every replica: with "
            "WARDROBE_DATABASE_URL set, a pepper of this machine's own would know no other's keys"
        )
    return settings.state_folder.pepper()


def fingerprint_of(pepper: bytes) -> str:
    """What tells this pepper from another one, in hex, and does not help to guess a key."""
    return hmac.new(pepper, b"wardrobe pepper", hashlib.sha256).hexdigest()


def _checked(pepper: bytes) -> bytes:
    """The pepper without the line break that editors and templates end a secret with.

    The 32 bytes that a state folder keeps are taken as they are: their last may be any.
    """
    if len(pepper) != MIN_PEPPER:
        pepper = pepper.rstrip(b"\r\n")
    if len(pepper) < MIN_PEPPER:
        raise InvalidRequest(f"WARDROBE_PEPPER: a pepper is at least {MIN_PEPPER} bytes")
    return pepper


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(
            f"WARDROBE_PEPPER_FILE: {path} cannot be read: {error.strerror}"
        ) from None
