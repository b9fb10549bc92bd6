"""The route table: turns a `model` into a version, and a key's hash into its principal.

It lives on the event loop's thread and is changed in place by `apply`, in one go and at the cost
of what has changed; `resolve` answers in one go too. So a request sees the routes of one revision.
Where an alias has a canary, who is in it is decided by a keyed hash: the same in every process, and
whoever is in it at some weight is in it at every higher one.
A name that is unknown and one that is another unit's look the same, unless it is a version that is
shared with the caller's unit. Which units there are, and whose an alias is, is asked of the units
in force at each look: a deleted unit is refused at once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from adapters.domain.derived_keys import Purpose, derive
from adapters.domain.evaluations import BASE
from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.principals import Principal, Scope
from adapters.domain.routes import Rollout, RolloutState, Route
from adapters.domain.units import Units
from adapters.domain.versions import ServedVersion
from adapters.errors import NotFound
from adapters.registry.ports import Changes
from service.reconcile.key_table import KeyTable

NEVER_READ = -1
"""The revision of a table that nothing was applied to."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a request is answered by. `version` is None for the base model."""

    model: str
    """The engine's name for it."""
    alias: str
    """What the caller asked for, from a closed set: safe as a label."""
    unit: Unit | None
    version: ServedVersion | None
    salt: str
    """vLLM's `cache_salt`: keeps one unit's prefix cache from another's view."""
    canary: Share | None = None
    """What answers a part of these requests instead."""
    shadow: Share | None = None
    """What gets copies of a part of them."""
    trial: int | None = None
    """The canary that the answer is counted for, by the rollout that began it."""

    @cached_property
    def version_name(self) -> str:
        """What an answer is counted under."""
        return BASE if self.version is None else self.version.name

    @cached_property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """How an answer names its version."""
        if self.version is None:
            return ()
        return (
            (b"x-adapter-version", self.version.name.encode()),
            (b"x-adapter-digest", self.version.digest.encode()),
        )


@dataclass(frozen=True, kw_only=True)
class Share:
    """Another version, and the part of an alias's requests that are its."""

    target: Target
    per_cent: float
    trial: int
    """The rollout that began it: who is drawn differs between one and the next."""


class RouteTable:
    """Holds everything that the request path looks up."""

    def __init__(
        self,
        *,
        base_name: str,
        pepper: bytes,
        units: Callable[[], Units],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` says when a key has expired, in seconds since the epoch."""
        self.base_name = base_name
        self.revision = NEVER_READ
        self.rollouts: Sequence[Rollout] = ()
        """Those that are loading or flipped."""
        self._salt_key = derive(pepper, Purpose.CACHE_SALT)
        self._lot_key = derive(pepper, Purpose.CANARY_LOT)
        self._units = units
        self._keys = KeyTable(clock)
        self._versions: dict[VersionId, ServedVersion] = {}
        self._pinned: dict[VersionId, None] = {}
        self._routes: dict[Alias, Route] = {}
        self._targets: dict[str, Target] = {}
        self._shared: dict[tuple[str, Unit], Target] = {}

    def apply(self, changes: Changes) -> None:
        """Brings the table to `changes.revision`.

        Whoever puts an await in here lets a request see half of a revision: `resolve`, at the
        other end, relies on there being none.
        """
        if changes.revision < self.revision:  # of a registry restored from a backup: all of it
            for known in (
                self._versions,
                self._pinned,
                self._routes,
                self._targets,
                self._shared,
            ):
                known.clear()
            self._keys.clear()
        for version in changes.versions:
            self._apply_version(version)
        for route in changes.routes:
            self._routes[route.alias] = route
            self._point(route)
        for key in changes.keys:
            self._keys.apply(key)
        self.rollouts = tuple(changes.rollouts)
        self.revision = changes.revision

    def _apply_version(self, version: ServedVersion) -> None:
        self._pinned.pop(version.id, None)
        self._share(version)
        if version.servable:
            if version.pinned:
                self._pinned[version.id] = None
            self._versions[version.id] = version
            self._targets[version.name] = self._target(version, alias=version.adapter)
        elif self._versions.pop(version.id, None) is not None:
            self._targets.pop(version.name, None)
            for route in self._routes.values():
                if version.id in route.named:
                    self._point(route)

    def _share(self, version: ServedVersion) -> None:
        """Under its own name, other units have a target of their own: their salt, their labels."""
        before = self._versions.get(version.id)
        for unit in () if before is None else before.shared_with:
            self._shared.pop((version.name, unit), None)
        for unit in version.shared_with if version.servable else ():
            target = self._target(version, alias=version.adapter)
            mine = salt(self._salt_key, f"unit:{unit}", version.digest)
            self._shared[version.name, unit] = replace(target, unit=unit, salt=mine)

    def _point(self, route: Route) -> None:
        stable = self.version(route.stable)
        if stable is None:
            self._targets.pop(route.alias, None)
            return
        canary = self._canary(route)
        self._targets[route.alias] = replace(
            self._target(stable, alias=route.alias),
            canary=canary,
            shadow=self._shadow(route),
            trial=None if canary is None else canary.trial,
        )

    def _canary(self, route: Route) -> Share | None:
        canary = route.canary
        version = None if canary is None else self.version(canary.version)
        if canary is None or version is None:
            return None
        target = replace(self._target(version, alias=route.alias), trial=canary.rollout)
        return Share(target=target, per_cent=canary.weight, trial=canary.rollout)

    def _shadow(self, route: Route) -> Share | None:
        shadow = route.shadow
        version = None if shadow is None else self.version(shadow.version)
        if shadow is None or version is None:
            return None
        target = self._target(version, alias=route.alias)
        return Share(target=target, per_cent=shadow.share, trial=shadow.rollout)

    @property
    def knows_old_hashes(self) -> bool:
        """Whether keys are in force that were hashed as earlier builds did."""
        return self._keys.knows_old_hashes

    def principal(self, key_hash: str) -> Principal | None:
        """Whose key it is; None when it is unknown, revoked, expired, or of a unit that is gone."""
        principal = self._keys.principal(key_hash)
        return principal if principal is not None and self.is_there(principal) else None

    @property
    def principals(self) -> Sequence[Principal]:
        """The holders of all keys in force."""
        return self._keys.principals

    def keys_ending(self, within_s: float) -> Mapping[str, int]:
        """By unit, else by role: holders whose last key ends within so many seconds."""
        ending = filter(self.is_there, self._keys.ending(within_s))
        return Counter(str(each.unit or each.role) for each in ending)

    def is_there(self, principal: Principal) -> bool:
        """Whether its unit, where it has one, is still configured."""
        return principal.unit is None or self._is_unit(principal.unit)

    def resolve(self, model: str, principal: Principal, lot: str | None = None) -> Target:
        """Raises NotFound (`model_not_found`). Without an await, as `apply` is.

        `lot` is what a canary is drawn by; without one the answer is the stable version.
        """
        # the base first: an alias of the same name is one unit's, the base a grant of its own
        if model == self.base_name:
            if not principal.may(Scope.BASE):
                raise unknown_model()
            return Target(
                model=model,
                alias=model,
                unit=principal.unit,
                version=None,
                salt=salt(self._salt_key, principal.owner, BASE),
            )
        target = self._targets.get(model)
        if target is not None and self._may(principal, model, target):
            return target if target.canary is None else self._drawn(target, target.canary, lot)
        shared = self._shared_with(principal, model)
        if shared is None:
            raise unknown_model()
        return shared

    def _shared_with(self, principal: Principal, model: str) -> Target | None:
        """Another unit's version that the principal's unit may be answered by.

        A key that names aliases is about those alone. What belongs to a unit that is gone answers
        nobody.
        """
        if principal.unit is None:
            return None
        target = self._shared.get((model, principal.unit))
        if target is None or principal.aliases is not None or not principal.may(Scope.INFER):
            return None
        owner = target.version.unit if target.version else None
        return target if owner is not None and self._is_unit(owner) else None

    def _drawn(self, target: Target, canary: Share, lot: str | None) -> Target:
        return canary.target if lot is not None and self.draws(canary, lot) else target

    def draws(self, share: Share, lot: str) -> bool:
        """Whether `lot` is in the part of the requests that is another version's."""
        return drawn(self._lot_key, share.trial, lot) < share.per_cent

    def visible(self, principal: Principal) -> Sequence[tuple[str, Target]]:
        """Every name this principal may ask for beside the base, in order."""
        mine = [
            (name, target)
            for name, target in self._targets.items()
            if name != self.base_name and self._may(principal, name, target)
        ]
        of_others = [
            (name, target)
            for name, unit in self._shared
            if unit == principal.unit and (target := self._shared_with(principal, name))
        ]
        return sorted(mine + of_others, key=lambda each: each[0])

    def knows(self, model: str) -> bool:
        """Whether the name is there at all, whosever it is."""
        return model in self._targets

    def version(self, version_id: VersionId | None) -> ServedVersion | None:
        """A servable version by its id."""
        return None if version_id is None else self._versions.get(version_id)

    @property
    def versions(self) -> Mapping[VersionId, ServedVersion]:
        """Everything that may be served."""
        return MappingProxyType(self._versions)

    def route(self, alias: Alias, unit: Unit) -> Route:
        """The unit's route; an alias that was another's starts anew."""
        return self._routes.get(alias, Route(alias=alias, unit=unit)).for_unit(unit)

    @property
    def routes(self) -> Sequence[Route]:
        """Those whose alias is still its unit's."""
        owner_of = self._units().owner_of
        return [r for r in self._routes.values() if owner_of.get(r.alias) == r.unit]

    def live(self) -> Mapping[Alias, ServedVersion]:
        """What each alias answers by, where it is still its unit's."""
        found = ((route.alias, self.version(route.stable)) for route in self.routes)
        return {alias: version for alias, version in found if version is not None}

    def answering(self) -> Sequence[ServedVersion]:
        """Every version that an alias answers by, canaries too, each once."""
        named = (id for route in self.routes for id in route.answering)
        found = (self.version(id) for id in dict.fromkeys(named))
        return [version for version in found if version is not None]

    def _kept(self) -> Sequence[ServedVersion]:
        """Shadows and what is pinned."""
        shadows = (self.version(r.shadow.version) for r in self.routes if r.shadow is not None)
        pinned = (self.version(version_id) for version_id in self._pinned)
        return [version for version in (*shadows, *pinned) if version is not None]

    @property
    def trials(self) -> frozenset[int]:
        """The rollouts that began a canary or a shadow which is there."""
        shares = (share for route in self.routes for share in (route.canary, route.shadow))
        return frozenset(share.rollout for share in shares if share is not None)

    def wanted_by_rollouts(self) -> Sequence[ServedVersion]:
        """Targets of rollouts that are loading."""
        loading = (o.target for o in self.rollouts if o.state is RolloutState.LOADING)
        return [v for target in loading if (v := self.version(target)) is not None]

    def required(self) -> Sequence[ServedVersion]:
        """What must be resident without being asked for, most wanted first: what answers, rollouts'
        targets, shadows and what is pinned.
        """
        return [*self.answering(), *self.wanted_by_rollouts(), *self._kept()]

    def _may(self, principal: Principal, model: str, target: Target) -> bool:
        unit = target.unit
        if unit is None or not principal.may_name(unit, target.alias) or not self._is_unit(unit):
            return False
        return model == target.model or self._units().owner_of.get(Alias(model)) == unit

    def _is_unit(self, unit: Unit) -> bool:
        return unit in self._units().by_name

    def _target(self, version: ServedVersion, *, alias: str) -> Target:
        return Target(
            model=version.name,
            alias=alias,
            unit=version.unit,
            version=version,
            salt=salt(self._salt_key, f"unit:{version.unit}", version.digest),
        )


def drawn(key: bytes, trial: int, lot: str) -> float:
    """Where a lot falls in a trial, from 0 up to 100; nobody without the key can tell."""
    digest = hashlib.blake2b(
        lot.encode("utf-8", "surrogatepass"),
        digest_size=8,
        key=key,
        salt=trial.to_bytes(hashlib.blake2b.SALT_SIZE, "big"),
    ).digest()
    return int.from_bytes(digest, "big") / 2**64 * 100.0


def unknown_model() -> NotFound:
    """The same for what is not there and for what is not this caller's."""
    return NotFound(
        "the model does not exist or you do not have access to it",
        param="model",
        code="model_not_found",
    )


def salt(key: bytes, owner: str, digest: str) -> str:
    """A fixed-alphabet salt nobody outside can guess; `owner` is `unit:…` or `role:…`."""
    mac = hmac.digest(key, f"{owner}\0{digest}".encode(), "sha256")
    return base64.urlsafe_b64encode(mac[:18]).decode()
