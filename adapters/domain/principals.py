"""Principals: who asks, and what for.

A *role* says whose things are meant, a *scope* what may be done with them. Nothing is allowed that
no scope allows; the service's access table (`service.gateway.access`) names the scope of each
route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType

from adapters.domain.limits import NO_KEY_LIMITS, KeyLimits
from adapters.domain.names import Alias, Unit


def unit_account(unit: str) -> str:
    """What a unit's requests are counted under."""
    return f"unit:{unit}"


class Role(StrEnum):
    """Whose things a principal is about."""

    ADMIN = "admin"
    """Nobody's in particular: every unit's with the scope `admin`, else none."""
    UNIT = "unit"
    """One unit's: its aliases, files, jobs and versions."""
    TRAINER = "trainer"
    """Names any version, to evaluate it; sees and changes nothing else over HTTP."""
    SYSTEM = "system"
    """Wardrobe's own processes beside the registry; no key ever has this role."""


class Scope(StrEnum):
    """What a principal may do."""

    INFER = "infer"
    """Be answered by the unit's versions, or by those of the aliases that its key names."""
    BASE = "base"
    """Be answered by the base model itself."""
    TRAIN = "train"
    """Use the unit's files and jobs."""
    CONTENT = "content"
    """Read back what files hold."""
    PROMOTE = "promote"
    """Move the unit's routes, and withdraw its versions."""
    APPROVE = "approve"
    """Say yes or no to versions of the unit that others have made."""
    READ = "read"
    """Look at the unit's adapters, versions and state. Whoever trains, promotes or approves may."""
    METRICS = "metrics"
    """Read the metrics, which are about all units."""
    ADMIN = "admin"
    """Everything, of every unit."""


OF_A_UNIT = frozenset(Scope) - {Scope.METRICS, Scope.ADMIN}
"""Scopes that are about one unit's things."""
OF_THE_WHOLE = frozenset({Scope.METRICS, Scope.ADMIN})
"""Scopes that are about all units."""
SCOPES_OF: Mapping[Role, frozenset[Scope]] = MappingProxyType(
    {
        Role.ADMIN: frozenset(Scope),
        Role.UNIT: OF_A_UNIT,
        Role.TRAINER: frozenset({Scope.INFER, Scope.BASE}),
        Role.SYSTEM: frozenset(Scope),
    }
)
"""All that a role may have, which it has where nothing less is said."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What somebody may do, and with whose things."""

    role: Role
    unit: Unit | None
    scopes: frozenset[Scope] | None = None
    """None is all that the role may have."""
    aliases: frozenset[Alias] | None = None
    """Those that `infer` is about; None is every one of the unit's."""

    def may(self, scope: Scope) -> bool:
        """Whether it has this scope."""
        return scope in (SCOPES_OF[self.role] if self.scopes is None else self.scopes)

    @property
    def sees_every_unit(self) -> bool:
        """Whether all units' things are its to see and change."""
        return self.role is Role.SYSTEM or (self.role is Role.ADMIN and self.may(Scope.ADMIN))

    def may_act_for(self, unit: str) -> bool:
        """Whether it may see and change what belongs to `unit`."""
        return self.unit == unit if self.role is Role.UNIT else self.sees_every_unit

    def may_infer_for(self, unit: str) -> bool:
        """Whether it may be answered by versions of `unit`."""
        return self.may(Scope.INFER) and (self.role is Role.TRAINER or self.may_act_for(unit))

    def may_name(self, unit: str, alias: str) -> bool:
        """Whether it may be answered by this alias of `unit`, or by versions of that adapter."""
        return self.may_infer_for(unit) and (self.aliases is None or alias in self.aliases)


@dataclass(frozen=True, kw_only=True)
class Principal(Grant):
    """Who asks: a key's or a token's holder, a job, or Wardrobe's own processes."""

    id: str
    """A key's or a job's id, a token's holder without a name, or `system`: the actor in histories.
    """
    limits: KeyLimits = NO_KEY_LIMITS
    """A key's own, within its unit's."""

    @cached_property
    def owner(self) -> str:
        """Whose shares and whose cache it uses. Typed, for a unit may be called like a role."""
        return unit_account(self.unit) if self.unit is not None else f"role:{self.role}"


KEY_ID = "key_"
"""What the ids of keys begin with."""


def is_key(principal: Principal) -> bool:
    """Whether it is a key of the registry, of which there are so many and no more."""
    return principal.id.startswith(KEY_ID)


SYSTEM = Principal(id="system", role=Role.SYSTEM, unit=None)
"""The service's own tasks and the trainer's, which reach the registry without a key."""


def widened(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """These scopes and those that they bring along."""
    given = frozenset(scopes)
    if Scope.ADMIN in given:
        return frozenset(Scope)
    return given | {Scope.READ} if given & {Scope.TRAIN, Scope.PROMOTE, Scope.APPROVE} else given
