"""Signs versions with an installation's Ed25519 key, and checks such signatures (RFC 8032).

What is signed is the manifest's digest, which stands for every byte of an adapter, together with
whose version it is and for which base: so a signature moves neither to another unit's adapter nor
to other bytes, whatever somebody writes into the registry. The version's number is not in it: that
is given when the row is written. Whoever can write the registry can therefore publish an adapter's
own earlier bytes again, and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from adapters.domain.names import Digest, Unit
from adapters.errors import InvalidRequest, Rejected
from adapters.hashing import sha256_bytes

_CONTEXT = "wardrobe version v1"
"""Keeps a signature of a version from ever being one of anything else."""
_FORM = re.compile(r"([0-9a-f]{16}):([A-Za-z0-9+/]{86}==)")
_PEM_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a signature says: these bytes are this unit's adapter, made for this base."""

    adapter: str
    unit: Unit
    digest: Digest
    base_fingerprint: Digest

    def to_bytes(self) -> bytes:
        """Canonical JSON behind the context."""
        said = {
            "adapter": self.adapter,
            "base": self.base_fingerprint,
            "digest": self.digest,
            "unit": self.unit,
        }
        return f"{_CONTEXT}\n{json.dumps(said, sort_keys=True, separators=(',', ':'))}".encode()


class Signer:
    """Signs with one private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key()
        self.key_id = key_id(self.public)

    @classmethod
    def made(cls) -> Signer:
        """One with a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, content: bytes) -> Signer:
        """Raises InvalidRequest for anything but an Ed25519 key in PKCS#8 without a password."""
        try:
            key = serialization.load_pem_private_key(content, password=None)
        except (ValueError, TypeError) as error:
            raise InvalidRequest(_NO_PRIVATE_KEY) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidRequest(_NO_PRIVATE_KEY)
        return cls(key)

    def to_pem(self) -> bytes:
        """The private key, for a file that nobody else reads."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def sign(self, statement: Statement) -> str:
        """`<key id>:<base64>`."""
        signature = base64.b64encode(self._key.sign(statement.to_bytes())).decode("ascii")
        return f"{self.key_id}:{signature}"


_NO_PRIVATE_KEY = (
    "a signing key is an Ed25519 key in PEM without a password, as `openssl genpkey -algorithm "
    "ed25519` makes it"
)


class TrustedKeys:
    """The public keys whose signatures count."""

    def __init__(self, keys: Iterable[Ed25519PublicKey] = ()) -> None:
        self._keys: Mapping[str, Ed25519PublicKey] = {key_id(key): key for key in keys}

    def __bool__(self) -> bool:
        return bool(self._keys)

    @property
    def ids(self) -> Sequence[str]:
        """Sorted."""
        return sorted(self._keys)

    def check(self, signature: str | None, statement: Statement) -> None:
        """Raises Rejected: `signature_missing`, `signature_untrusted`, `signature_invalid`."""
        if signature is None:
            raise Rejected("the version is not signed", code="signature_missing")
        match = _FORM.fullmatch(signature)
        if match is None:
            raise _does_not_fit()
        key = self._keys.get(match[1])
        if key is None:
            raise Rejected(
                f"the version is signed by the key {match[1]}, which is not trusted here",
                code="signature_untrusted",
            )
        try:
            key.verify(base64.b64decode(match[2], validate=True), statement.to_bytes())
        except (InvalidSignature, binascii.Error) as error:
            raise _does_not_fit() from error


def _does_not_fit() -> Rejected:
    return Rejected("the version's signature does not fit it", code="signature_invalid")


def key_id(key: Ed25519PublicKey) -> str:
    """What tells this key from others: the beginning of its SHA-256."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return sha256_bytes(raw)[:16]


def public_pem(key: Ed25519PublicKey) -> bytes:
    """The public key as other installations and replicas are given it."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def public_keys(content: bytes) -> list[Ed25519PublicKey]:
    """Every public key of a PEM file, of which it holds one or more. Raises InvalidRequest."""
    found = []
    for block in _PEM_BLOCK.findall(content):
        try:
            key = serialization.load_pem_public_key(block)
        except ValueError as error:
            raise InvalidRequest(_NO_PUBLIC_KEY) from error
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidRequest(_NO_PUBLIC_KEY)
        found.append(key)
    if not found:
        raise InvalidRequest(_NO_PUBLIC_KEY)
    return found


_NO_PUBLIC_KEY = "a trusted key is the public half of an Ed25519 key, in PEM"
