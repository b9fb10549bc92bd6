"""The routing table: an immutable snapshot that turns a `model` into a version.

Built when the registry's snapshot changes and swapped by one assignment, so a request sees one
table from beginning to end. A name that is unknown and one that is another unit's look the same.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.principals import Caller, Key, Role
from adapters.domain.versions import Version
from adapters.errors import NotFound
from adapters.registry import Snapshot


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a request is answered by. `version` is None for the base model."""

    model: str
    """The engine's name for it."""
    alias: str
    """What the caller asked for, from a closed set: safe as a label."""
    unit: Unit | None
    version: Version | None
    salt: str
    """vLLM's `cache_salt`: keeps one unit's prefix cache from another's view."""


@dataclass(frozen=True, kw_only=True)
class RoutingTable:
    """Everything the request path looks up."""

    revision: int
    targets: Mapping[str, Target]
    """By alias and by version name."""
    callers: Mapping[str, Caller]
    """By key hash."""
    live: frozenset[VersionId]
    generations: Mapping[Alias, int]
    base_name: str
    pepper: bytes = field(repr=False)

    def caller(self, key_hash: str) -> Caller | None:
        """Whose key it is."""
        return self.callers.get(key_hash)

    def resolve(self, model: str, caller: Caller) -> Target:
        """Raises NotFound (`model_not_found`)."""
        # the base first: an alias of the same name is one unit's, the base everybody's
        if model == self.base_name:
            return Target(
                model=model,
                alias=model,
                unit=caller.unit,
                version=None,
                salt=salt(self.pepper, _owner(caller), "base"),
            )
        target = self.targets.get(model)
        if target is not None and target.unit is not None and caller.may_infer_for(target.unit):
            return target
        raise NotFound(
            "the model does not exist or you do not have access to it",
            param="model",
            code="model_not_found",
        )


def salt(pepper: bytes, owner: str, digest: str) -> str:
    """A fixed-alphabet salt nobody outside can guess; `owner` is `unit:…` or `role:…`."""
    mac = hmac.new(pepper, f"cache-salt\0{owner}\0{digest}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(mac.digest()[:18]).decode()


def _owner(caller: Caller) -> str:
    """Typed, for a unit may be called like a role."""
    return f"unit:{caller.unit}" if caller.unit is not None else f"role:{caller.role}"


def build_table(snapshot: Snapshot, *, base_name: str, pepper: bytes) -> RoutingTable:
    """The table for one snapshot of the registry."""
    targets: dict[str, Target] = {}
    live: set[VersionId] = set()
    for version in snapshot.versions.values():
        targets[version.name] = _target(version, alias=version.adapter, pepper=pepper)
    for alias, route in snapshot.routes.items():
        served = snapshot.versions.get(route.stable) if route.stable is not None else None
        if served is not None:
            targets[alias] = _target(served, alias=alias, pepper=pepper)
            live.add(served.id)
    return RoutingTable(
        revision=snapshot.revision,
        targets=targets,
        callers={key.hash: _caller(key) for key in snapshot.keys},
        live=frozenset(live),
        generations={alias: route.generation for alias, route in snapshot.routes.items()},
        base_name=base_name,
        pepper=pepper,
    )


def _target(version: Version, *, alias: str, pepper: bytes) -> Target:
    return Target(
        model=version.name,
        alias=alias,
        unit=version.unit,
        version=version,
        salt=salt(pepper, f"unit:{version.unit}", version.digest),
    )


def _caller(key: Key) -> Caller:
    return Caller(key_id=key.id, role=Role(key.role), unit=key.unit)
