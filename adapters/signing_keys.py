"""Finds the key that versions are signed with, and the keys whose signatures count.

On one machine the key is made once and kept in the state folder. Machines that share a registry
are brought one (`WARDROBE_SIGNING_KEY_FILE`); whoever only serves needs public keys alone
(`WARDROBE_TRUSTED_KEYS`), of which there may be several while one follows another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from adapters.domain.names import Digest, Unit
from adapters.errors import InvalidRequest, Rejected
from adapters.settings import Settings
from adapters.signatures import Signer, Statement, TrustedKeys, public_keys

Mode = Literal["require", "warn", "off"]


class Signed(Protocol):
    """As much of a version as its signature is about."""

    @property
    def adapter(self) -> str: ...
    @property
    def unit(self) -> Unit: ...
    @property
    def digest(self) -> Digest: ...
    @property
    def base_fingerprint(self) -> Digest: ...
    @property
    def signature(self) -> str | None: ...


def statement_of(version: Signed) -> Statement:
    """What its signature must say."""
    return Statement(
        adapter=version.adapter,
        unit=version.unit,
        digest=version.digest,
        base_fingerprint=version.base_fingerprint,
    )


def signature_of(version: Signed, signer: Signer | None) -> str | None:
    """The installation's, where this machine has its key."""
    return None if signer is None else signer.sign(statement_of(version))


@dataclass(frozen=True, kw_only=True)
class SignaturePolicy:
    """What a process does with a version by its signature."""

    mode: Mode = "off"
    trusted: TrustedKeys = field(default_factory=TrustedKeys)

    @property
    def required(self) -> Sequence[str] | None:
        """The ids of the keys of which one must have signed; None where none must."""
        return self.trusted.ids if self.mode == "require" else None

    def problem(self, version: Signed) -> Rejected | None:
        """Why the version's signature does not count here; None where it does, or nobody asks."""
        if self.mode == "off":
            return None
        try:
            self.trusted.check(version.signature, statement_of(version))
        except Rejected as problem:
            return problem
        return None

    def check(self, version: Signed) -> Rejected | None:
        """The problem, where it is only to be told of. Raises Rejected where it is required."""
        problem = self.problem(version)
        if problem is not None and self.mode == "require":
            raise problem
        return problem


def find_signer(settings: Settings) -> Signer | None:
    """The key that was brought, else the state folder's; None where there is neither.

    Raises InvalidRequest, OSError.
    """
    if settings.signing_key_file is not None:
        return _signer(settings.signing_key_file, "WARDROBE_SIGNING_KEY_FILE")
    made = settings.state_folder.signing_key
    if settings.shares_registry or not made.exists():
        return None
    return _signer(made, "the state folder's signing key")


def check_can_sign(settings: Settings) -> None:
    """For whoever publishes. Raises InvalidRequest for a key that is none, and where signatures are
    required and no key will ever be here: with one machine, its service makes one in time.
    """
    if find_signer(settings) is not None or not settings.shares_registry:
        return
    if signature_policy(settings).mode == "require":
        raise InvalidRequest(
            "signatures are required, and the trainer has no key to sign with: bring it one "
            "(WARDROBE_SIGNING_KEY_FILE), or no replica loads what it trains"
        )


def signature_policy(settings: Settings) -> SignaturePolicy:
    """What the settings ask for. `auto` requires signatures wherever a key says whose count.

    Raises InvalidRequest where they are required and nobody's count, and for keys that are none.
    """
    signer = find_signer(settings)
    own = [] if signer is None else [signer.public]
    trusted = TrustedKeys([*own, *_brought(settings.trusted_keys)])
    if settings.signatures == "auto":
        return SignaturePolicy(mode="require" if trusted else "off", trusted=trusted)
    if settings.signatures == "require" and not trusted:
        raise InvalidRequest(
            "WARDROBE_SIGNATURES=require: bring a key (WARDROBE_SIGNING_KEY_FILE, or "
            "WARDROBE_TRUSTED_KEYS), or no version can be served"
        )
    return SignaturePolicy(mode=settings.signatures, trusted=trusted)


def _signer(path: Path, where: str) -> Signer:
    try:
        return Signer.from_pem(_read(path, where))
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: {error.message}") from error


def _brought(path: Path | None) -> list[Ed25519PublicKey]:
    """The keys of a file, or of every file of a folder."""
    if path is None:
        return []
    # a mounted ConfigMap keeps its files behind links, and has folders whose names begin with dots
    files = sorted(f for f in path.iterdir() if f.is_file()) if path.is_dir() else [path]
    try:
        return [key for file in files for key in public_keys(_read(file, "WARDROBE_TRUSTED_KEYS"))]
    except InvalidRequest as error:
        raise InvalidRequest(f"WARDROBE_TRUSTED_KEYS: {error.message}") from error


def _read(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{where}: {path} cannot be read: {error.strerror}") from None
