"""The keys of a state folder: an admin's, the trainer's, one per unit, made on first start.

`keys.json` (0600) keeps them for the people and processes of this machine; the registry keeps
only their keyed hashes. Run again, it makes what is missing and changes nothing else.
"""

from __future__ import annotations

import json
from typing import Any

from adapters.domain.names import Unit
from adapters.domain.principals import SYSTEM, NewKey, Role, hash_key, make_key
from adapters.domain.units import Units
from adapters.errors import Conflict
from adapters.registry import Registry
from adapters.settings import Settings
from adapters.state_folder import write_private


def ensure_keys(settings: Settings, registry: Registry, units: Units) -> list[str]:
    """Makes missing keys; the answer names whose are new (never the keys themselves).

    Raises Conflict (`key_revoked`) when a key that was revoked is brought again.
    """
    folder = settings.state_folder
    pepper = folder.pepper()
    kept: dict[str, Any] = json.loads(folder.keys.read_text()) if folder.keys.exists() else {}
    secrets: dict[str, str] = _flat(kept)
    if settings.admin_key is not None:
        secrets["admin"] = settings.admin_key.get_secret_value()
    known = {key.hash for key in registry.keys.active()}
    fresh: list[NewKey] = []
    made: list[str] = []
    for owner, role, unit in _owners(units):
        secret = secrets.get(owner)
        if secret is not None and hash_key(secret, pepper=pepper) in known:
            continue
        new_secret, record = make_key(role, unit, pepper=pepper, secret=secret)
        if secret is None:
            made.append(owner)
        secrets[owner] = new_secret
        fresh.append(record)
    # the file first: a hash in the registry whose key nobody has would be a key lost for good
    content = json.dumps(_nested(secrets), indent=2) + "\n"
    if not folder.keys.exists() or folder.keys.read_text() != content:
        write_private(folder.keys, content.encode())
    try:
        registry.keys.add(fresh)
    except Conflict:
        raise Conflict(
            "a key that was revoked cannot come back: bring another admin key, or remove its "
            "entry from keys.json so that a new one is made",
            code="key_revoked",
        ) from None
    if settings.admin_key is not None:
        _revoke_older_admins(registry, hash_key(secrets["admin"], pepper=pepper))
    return made


def _revoke_older_admins(registry: Registry, current: str) -> None:
    """Ops rotates the key it brings by bringing another: the one before must stop working."""
    for key in registry.keys.active():
        if key.role is Role.ADMIN and key.hash != current:
            registry.keys.revoke(key.id, by=SYSTEM)


def _owners(units: Units) -> list[tuple[str, Role, Unit | None]]:
    return [
        ("admin", Role.ADMIN, None),
        ("trainer", Role.TRAINER, None),
        *((f"units.{unit}", Role.UNIT, unit) for unit in sorted(units.by_name)),
    ]


def _flat(kept: dict[str, Any]) -> dict[str, str]:
    units = {f"units.{unit}": secret for unit, secret in kept.get("units", {}).items()}
    return {name: kept[name] for name in ("admin", "trainer") if name in kept} | units


def _nested(secrets: dict[str, str]) -> dict[str, Any]:
    units = {
        owner.removeprefix("units."): secret
        for owner, secret in sorted(secrets.items())
        if owner.startswith("units.")
    }
    return {"admin": secrets["admin"], "trainer": secrets["trainer"], "units": units}
