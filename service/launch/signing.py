"""Makes this machine's signing key at its first start, and adopts what was published before.

Builds before this one signed nothing. Their versions have been served until now on the registry's
word; the start that makes the key signs them all, once, and says so in the audit log. From then on
an unsigned version is served no more. Machines that were brought a key adopt by command
(`wardrobe signatures adopt`): nothing tells them which start is the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from adapters.domain.principals import SYSTEM, Principal
from adapters.domain.versions import Version
from adapters.durable_files import write_private
from adapters.registry import Registry
from adapters.settings import Settings
from adapters.signatures import Signer
from adapters.signing_keys import statement_of

FIRST_KEY = "published before this machine had a signing key"
_PAGE = 1000


def ensure_signing_key(settings: Settings, registry: Registry) -> int:
    """Makes the key where this machine is to have one of its own; how many versions it adopted.

    The versions first, then the file: a start that dies in between is the first one again. Call
    it under the state folder's lock `up`. Raises what the registry raises, OSError.
    """
    path = settings.state_folder.signing_key
    if settings.signing_key_file is not None or settings.shares_registry or path.exists():
        return 0
    signer = Signer.made()
    adopted = adopt(registry, signer, lambda _: True, by=SYSTEM, reason=FIRST_KEY)
    write_private(path, signer.to_pem(), overwrite=False)
    return adopted


def adopt(
    registry: Registry,
    signer: Signer,
    wanted: Callable[[Version], bool],
    *,
    by: Principal,
    reason: str | None,
) -> int:
    """Signs the versions that are kept and `wanted`; how many that changed."""
    signatures = {
        version.id: signer.sign(statement_of(version))
        for version in kept_versions(registry)
        if wanted(version)
    }
    return registry.versions.sign(signatures, by, reason=reason)


def kept_versions(registry: Registry) -> Iterator[Version]:
    """Those that may be served now or later, newest first."""
    after = None
    while True:
        listed = registry.versions.list(SYSTEM, adapter=None, after=after, limit=_PAGE)
        yield from (version for version in listed.items if version.servable)
        if not listed.has_more:
            return
        after = listed.items[-1].name
