"""The keys that a service knows from its start: an admin's, the trainer's, one per unit.

Each was brought by an operator (`adapters.brought_keys`) or is made once and kept in a file
(`service.launch.key_files`); the registry holds keyed hashes of all. Run again, it makes what is
missing and changes nothing else. A revoked key is refused, is not made anew, and stops nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from adapters.brought_keys import brought_keys
from adapters.domain.names import Unit
from adapters.domain.principals import PREFIX, SYSTEM, Key, Role, hash_key, make_key, make_secret
from adapters.domain.units import Units
from adapters.errors import Conflict
from adapters.registry import Registry
from adapters.settings import Settings
from service.launch.key_files import (
    ADMIN,
    TRAINER,
    KeptKeys,
    kept_in,
    read_kept,
    unit_owner,
    write_kept,
)

log = structlog.get_logger("wardrobe.keys")


@dataclass(frozen=True, kw_only=True)
class KeyReport:
    """Whose key was made now, and whose is there but revoked; never the keys themselves."""

    made: tuple[str, ...]
    revoked: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Owner:
    name: str
    role: Role
    unit: Unit | None


class KeyKeeper:
    """Keeps the keys in step with the units, and logs once what it finds revoked."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._told: frozenset[str] = frozenset()

    def ensure(self, units: Units) -> None:
        """Makes missing keys. Raises what `ensure_keys` raises."""
        report = ensure_keys(self._settings, self._registry, units)
        for owner in report.made:
            log.info("key_made", owner=owner, kept_in=self._place(owner))
        for owner in report.revoked:
            if owner not in self._told:
                log.warning("key_is_revoked", owner=owner, kept_in=self._place(owner))
        self._told |= frozenset(report.revoked)

    def _place(self, owner: str) -> str:
        brought = {role.value for role in brought_keys(self._settings)}
        if owner in brought:
            return f"WARDROBE_{owner.upper()}_KEY"
        return kept_in(self._settings.state_folder, owner)


def ensure_keys(settings: Settings, registry: Registry, units: Units) -> KeyReport:
    """Makes missing keys and enters all of them in the registry.

    Raises InvalidRequest when a key that was brought cannot be used, Conflict (`key_in_use`) when
    a key is already somebody else's.
    """
    folder = settings.state_folder
    brought = {role.value: secret for role, secret in brought_keys(settings).items()}
    owners = _owners(units)
    with folder.lock("keys", wait=True):  # several processes of one service start at once
        table = _KeyTable(registry, folder.pepper())
        kept = _without_brought(read_kept(folder), brought, table)
        made = [
            owner.name
            for owner in owners
            if owner.name not in kept.secrets and owner.name not in brought
        ]
        for owner in owners:
            if owner.name in made:
                kept = kept.with_secret(owner.name, make_secret(owner.role, owner.unit))
        # the files first: a hash in the registry whose key nobody has would be a key lost for good
        write_kept(folder, kept)
        secrets = {**kept.secrets, **brought}
        records = {owner.name: table.enter(owner, secrets[owner.name]) for owner in owners}
        write_kept(folder, _revoke_brought_before(kept, brought, records, table))
    revoked = tuple(name for name, record in records.items() if record.revoked_at is not None)
    return KeyReport(made=tuple(made), revoked=revoked)


def _owners(units: Units) -> list[_Owner]:
    return [
        _Owner(name=ADMIN, role=Role.ADMIN, unit=None),
        _Owner(name=TRAINER, role=Role.TRAINER, unit=None),
        *(
            _Owner(name=unit_owner(unit), role=Role.UNIT, unit=unit)
            for unit in sorted(units.by_name)
        ),
    ]


def _without_brought(kept: KeptKeys, brought: Mapping[str, str], table: _KeyTable) -> KeptKeys:
    """Takes out of the files what an earlier build wrote there of brought keys.

    Those it made itself begin with our prefix. The registry's record is noted instead.
    """
    for owner in (ADMIN, TRAINER):
        secret = kept.secrets.get(owner)
        if secret is None or (secret.startswith(f"{PREFIX}-") and secret != brought.get(owner)):
            continue
        record = table.find(secret)
        kept = kept.without_secret(owner)
        if record is not None and owner not in kept.brought:
            kept = kept.with_brought(owner, record.id)
    return kept


def _revoke_brought_before(
    kept: KeptKeys, brought: Mapping[str, str], records: Mapping[str, Key], table: _KeyTable
) -> KeptKeys:
    """Revokes the key brought before this one: an operator rotates it by bringing another.

    A revoked key that is brought again replaces nothing.
    """
    for owner in brought:
        record, before = records[owner], kept.brought.get(owner)
        if record.revoked_at is not None:
            continue
        if before not in (None, record.id):
            table.revoke(before)
        kept = kept.with_brought(owner, record.id)
    return kept


class _KeyTable:
    """The registry's keys: the one place here that knows its methods."""

    def __init__(self, registry: Registry, pepper: bytes) -> None:
        self._registry = registry
        self._pepper = pepper

    def find(self, secret: str) -> Key | None:
        """A key's record, be it revoked or not."""
        return self._registry.keys.find(hash_key(secret, pepper=self._pepper))

    def enter(self, owner: _Owner, secret: str) -> Key:
        """The record of the owner's key, made where there is none.

        Raises Conflict when the key is another owner's.
        """
        record = self.find(secret)
        if record is None:
            _, new = make_key(owner.role, owner.unit, pepper=self._pepper, secret=secret)
            try:
                (record,) = self._registry.keys.add([new])
            except Conflict:  # another replica was brought the same key and came first
                record = self.find(secret)
                if record is None:
                    raise
        if (record.role, record.unit) != (owner.role, owner.unit):
            raise Conflict(
                f"the key of {owner.name} is already somebody else's; give it one of its own",
                code="key_in_use",
            )
        return record

    def revoke(self, key_id: str) -> None:
        self._registry.keys.revoke(key_id, by=SYSTEM)
