"""The keys that a service knows from its start: an admin's, the trainer's, one per unit, and where
it is brought the one for the metrics.

Each was brought by an operator (`adapters.brought_keys`) or is made once and kept in a file
(`service.launch.key_files`); the registry holds keyed hashes of all. Run again, it makes what is
missing and changes nothing else. A revoked key is refused, is not made anew, and stops nobody.

Where other machines may use the registry, no key is made: one that lies on this machine would be
lost with it, and nobody else could read it. Whoever was brought none has none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from adapters.brought_keys import brought_keys, brought_metrics_key, brought_unit_keys
from adapters.domain.api_keys import (
    DAY_S,
    METRICS_NAME,
    PREFIX,
    Key,
    KeyHasher,
    NewKey,
    make_key,
    make_secret,
)
from adapters.domain.names import Unit
from adapters.domain.principals import Role, Scope
from adapters.domain.units import Units
from adapters.errors import Conflict
from adapters.pepper import find_pepper, fingerprint_of
from adapters.registry import Registry
from adapters.settings import Settings
from adapters.state_folder import StateFolder
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
    """Whose key was made now, whose is there but revoked or expired, who has none; never a key."""

    made: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Owner:
    name: str
    """As in reports and files."""
    role: Role
    unit: Unit | None
    holder: str | None = None
    scopes: frozenset[Scope] | None = None


class KeyKeeper:
    """Keeps the keys in step with the units, and logs once what it finds revoked or missing."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._told: frozenset[str] = frozenset()

    def ensure(self, units: Units) -> None:
        """Makes missing keys. Raises what `ensure_keys` raises."""
        report = ensure_keys(self._settings, self._registry, units)
        for owner in report.made:
            log.info("key_made", owner=owner, kept_in=kept_in(self._settings.state_folder, owner))
        for owner in report.revoked:
            if owner not in self._told:
                log.warning("key_is_revoked", owner=owner, kept_in=self._place(owner, units))
        for owner in report.expired:
            if owner not in self._told:
                log.warning("key_has_expired", owner=owner, bring_in=_variable(owner))
        for owner in report.missing:
            if owner not in self._told:
                log.warning("key_is_missing", owner=owner, bring_in=_variable(owner))
        self._told |= {*report.revoked, *report.expired, *report.missing}

    def _place(self, owner: str, units: Units) -> str:
        if owner in _brought(self._settings, units):
            return _variable(owner)
        return kept_in(self._settings.state_folder, owner)


def ensure_keys(settings: Settings, registry: Registry, units: Units) -> KeyReport:
    """Makes missing keys and enters all of them in the registry.

    Raises InvalidRequest when a key or the pepper that was brought cannot be used, Conflict when
    a key is already somebody else's (`key_in_use`) or the pepper is not the registry's
    (`pepper_changed`).
    """
    brought = _brought(settings, units)
    owners = [*_owners(units), *([_METRICS] if _METRICS.name in brought else [])]
    table = _KeyTable(registry, find_pepper(settings), days=settings.brought_key_days)
    made: tuple[str, ...] = ()
    kept: Mapping[str, str] = {}
    if not settings.shares_registry:
        made, kept = _keep(settings.state_folder, owners, brought, table)
    records = {
        owner.name: table.bring(owner, brought[owner.name])
        if owner.name in brought
        else table.enter(owner, kept[owner.name])
        for owner in owners
        if owner.name in brought or owner.name in kept
    }
    return KeyReport(
        made=made,
        revoked=tuple(name for name, record in records.items() if record.revoked_at is not None),
        expired=tuple(name for name, record in records.items() if _has_expired(record)),
        missing=tuple(owner.name for owner in owners if owner.name not in records),
    )


_METRICS = _Owner(
    name="metrics",
    role=Role.ADMIN,
    unit=None,
    holder=METRICS_NAME,
    scopes=frozenset({Scope.METRICS}),
)
"""Who scrapes; it has a key where one is brought."""


def _owners(units: Units) -> list[_Owner]:
    return [
        _Owner(name=ADMIN, role=Role.ADMIN, unit=None),
        _Owner(name=TRAINER, role=Role.TRAINER, unit=None),
        *(
            _Owner(name=unit_owner(unit), role=Role.UNIT, unit=unit)
            for unit in sorted(units.by_name)
        ),
    ]


def _brought(settings: Settings, units: Units) -> Mapping[str, str]:
    """Owner → key, of those brought. Raises InvalidRequest."""
    roles = {role.value: secret for role, secret in brought_keys(settings).items()}
    metrics = brought_metrics_key(settings)
    of_units = brought_unit_keys(settings, units.by_name)
    return {
        **roles,
        **({} if metrics is None else {_METRICS.name: metrics}),
        **{unit_owner(unit): secret for unit, secret in of_units.items()},
    }


def _variable(owner: str) -> str:
    """The setting by which the owner's key is brought."""
    known = (ADMIN, TRAINER, _METRICS.name)
    return f"WARDROBE_{owner.upper()}_KEY" if owner in known else "WARDROBE_UNIT_KEYS"


def _keep(
    folder: StateFolder, owners: list[_Owner], brought: Mapping[str, str], table: _KeyTable
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Makes the keys that are neither kept nor brought; who got one, and owner → key of all kept.

    The files come before the registry: a hash whose key nobody has would be a key lost for good.
    """
    with folder.lock("keys", wait=True):  # several processes of one service start at once
        kept = _without_brought(read_kept(folder), owners, brought, table)
        made = [
            owner
            for owner in owners
            if owner.name not in kept.secrets and owner.name not in brought
        ]
        for owner in made:
            kept = kept.with_secret(owner.name, make_secret(owner.role, owner.unit))
        write_kept(folder, kept)
    return tuple(owner.name for owner in made), kept.secrets


def _without_brought(
    kept: KeptKeys, owners: list[_Owner], brought: Mapping[str, str], table: _KeyTable
) -> KeptKeys:
    """Takes out of the files what an earlier build wrote there of brought keys.

    Those it made itself begin with our prefix. The registry notes the others as brought, so that
    the next one brought ends them.
    """
    for owner in owners:
        secret = kept.secrets.get(owner.name)
        if secret is None or owner.role is Role.UNIT:
            continue
        if secret.startswith(f"{PREFIX}-") and secret != brought.get(owner.name):
            continue
        kept = kept.without_secret(owner.name)
        if table.find(secret) is not None:
            table.bring(owner, secret)
    return kept


class _KeyTable:
    """The registry's keys: the one place here that knows its methods."""

    def __init__(self, registry: Registry, pepper: bytes, *, days: float) -> None:
        """`days`: how long a key that is brought lasts; 0 is for ever.

        Raises Conflict when the registry's keys have another pepper.
        """
        registry.keys.check_pepper(fingerprint_of(pepper))
        self._keys = registry.keys
        self._pepper = pepper
        self._lifetime_s = days * DAY_S or None
        self._hasher = KeyHasher(pepper)

    def find(self, secret: str) -> Key | None:
        """A key's record, be it revoked or not."""
        found = self._keys.find(self._hasher.hash(secret))
        return found or self._keys.find(self._hasher.hash_of_earlier_builds(secret))

    def enter(self, owner: _Owner, secret: str) -> Key:
        """The record of the owner's key, made where there is none.

        Raises Conflict when the key is another owner's.
        """
        record = self.find(secret)
        if record is None:
            try:
                (record,) = self._keys.add([self._new(owner, secret)])
            except Conflict:  # another process of this service came first
                record = self.find(secret)
                if record is None:
                    raise
        return _checked(owner, record)

    def bring(self, owner: _Owner, secret: str) -> Key:
        """The same for a key that was brought; it ends the one brought before it."""
        new, known = self._new(owner, secret), self.find(secret)
        new = replace(new, expires_in=self._lifetime_s)
        if known is not None:  # under the hash it has: replicas of an earlier build know no other
            new = replace(new, hash=known.hash, hash_version=known.hash_version)
        return _checked(owner, self._keys.bring(new))

    def _new(self, owner: _Owner, secret: str) -> NewKey:
        _, new = make_key(owner.role, owner.unit, pepper=self._pepper, secret=secret)
        return replace(new, name=owner.holder, scopes=owner.scopes)


def _has_expired(record: Key) -> bool:
    """By this machine's clock: it is only told."""
    return record.revoked_at is None and not record.in_force(time.time())


def _checked(owner: _Owner, record: Key) -> Key:
    if record.owner != (owner.role, owner.unit, owner.holder):
        raise Conflict(
            f"the key of {owner.name} is already somebody else's; give it one of its own",
            code="key_in_use",
        )
    return record
