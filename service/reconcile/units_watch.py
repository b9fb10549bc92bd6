"""Watches the units folder every second, and puts a good change into force.

A folder with mistakes changes nothing: the last good units stay in force, the mistakes are
logged and `wardrobe_units_folder_invalid` is 1. A unit or alias that is gone is refused at once,
whether or not the rest of the change can be put into force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import structlog

from adapters.domain.limits import NO_KEY_LIMITS, Account, Limits
from adapters.domain.names import Unit
from adapters.domain.principals import Principal, is_key, unit_account
from adapters.domain.units import InvalidUnits, UnitLimits, Units, load_units
from service.metrics import Metrics
from service.reconcile.registry_calls import RegistryCalls

WATCH_SECONDS = 1.0
RETRY_SECONDS = 10.0
"""After a change that could not be put into force (say, a full disk)."""
CHANGE_SECONDS = 60.0

log = structlog.get_logger("wardrobe.units")


@dataclass(frozen=True)
class CurrentUnits:
    """The units in force, asked the way the request path asks."""

    units: Units
    _admits_by: dict[str, Limits] = field(default_factory=dict)
    _accounts: dict[tuple[str, str], Sequence[Account]] = field(default_factory=dict)

    def limits_of(self, unit: str) -> Limits:
        """What a unit's requests are admitted by; one no longer configured keeps the default."""
        found = self._admits_by.get(unit)
        if found is None:
            found = self._admits_by[unit] = self._limits(unit).limits
        return found

    def accounts_of(self, principal: Principal) -> Sequence[Account]:
        """Whose limits a principal's own requests are admitted by: its unit's, and its key's."""
        found = self._accounts.get((principal.owner, principal.id))
        if found is None:
            found = self._made_accounts(principal)
            if is_key(principal):  # those are as many as there are, and no more
                self._accounts[principal.owner, principal.id] = found
        return found

    def limits_by_account(self, principals: Iterable[Principal]) -> Mapping[str, Limits]:
        """Those of every unit and of these principals, by the name of their account."""
        limits = {unit_account(unit): self.limits_of(unit) for unit in self.units.by_name}
        for principal in principals:
            limits |= {each.name: each.limits for each in self.accounts_of(principal)[1:]}
        return limits

    def _made_accounts(self, principal: Principal) -> Sequence[Account]:
        unit = principal.unit
        if unit is None:
            return (Account(name=principal.owner, limits=Limits()),)
        of_unit = Account(name=principal.owner, limits=self.limits_of(unit))
        if not is_key(principal):
            return (of_unit,)
        own = principal.limits.over(self._limits(unit).per_key or NO_KEY_LIMITS)
        if not own.said:
            return (of_unit,)
        return of_unit, Account(name=f"key:{principal.id}", limits=own.limits)

    def max_file_bytes(self, unit: Unit | None) -> int:
        """Largest upload; for the admin the largest of any unit."""
        if unit is None:
            return max(u.limits.max_file_bytes for u in self.units.by_name.values())
        return self._limits(unit).max_file_bytes

    def _limits(self, unit: str) -> UnitLimits:
        config = self.units.by_name.get(Unit(unit))
        return config.limits if config else UnitLimits()


class UnitsWatch:
    """Holds the units in force and re-reads the folder when it changes."""

    def __init__(
        self, folder: Path, metrics: Metrics, *, on_change: Callable[[Units], object]
    ) -> None:
        self._folder = folder
        self._metrics = metrics
        self._on_change = on_change
        self._calls = RegistryCalls("units", seconds=CHANGE_SECONDS)
        self._seen = self._fingerprint()
        self.current = CurrentUnits(load_units(folder))

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            looked = await self.attempt()
            await asyncio.sleep(WATCH_SECONDS if looked else RETRY_SECONDS)

    async def attempt(self) -> bool:
        """A look that never raises; False when what changed must be tried again."""
        try:
            await self._calls(self.look)
        except Exception:  # the edge of a background process: log, count, try again
            self._metrics.units_errors.set(1)
            log.exception("units_not_in_force")
            return False
        return True

    def look(self) -> None:
        """Re-reads the folder if anything in it changed. Raises what `on_change` raises."""
        seen = self._fingerprint()
        if seen == self._seen:
            return
        try:
            units = load_units(self._folder)
        except InvalidUnits as error:
            self._seen = seen  # the same words would only bring the same mistakes
            self._metrics.units_errors.set(1)
            log.error("units_invalid", problems=error.problems)
            return
        # what was taken away ends at once; what is new begins when it can work
        self.current = CurrentUnits(_remaining(self.current.units, units))
        self._on_change(units)
        self._seen, self.current = seen, CurrentUnits(units)
        self._metrics.units_errors.set(0)
        log.info("units_changed", units=sorted(units.by_name))

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()

    def _fingerprint(self) -> tuple[tuple[str, int, int], ...]:
        """Names, sizes and times of the real files: a ConfigMap swaps a link above them."""
        try:
            paths = sorted(self._folder.glob("*.y*ml"))
            stats = [(path.name, path.stat()) for path in paths]
        except OSError:
            return ()
        return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _remaining(units: Units, new: Units) -> Units:
    """Those of `units` and their aliases that `new` still has, as they were."""
    by_name = {name: config for name, config in units.by_name.items() if name in new.by_name}
    owner_of = {
        alias: unit for alias, unit in units.owner_of.items() if new.owner_of.get(alias) == unit
    }
    return Units(MappingProxyType(by_name), MappingProxyType(owner_of))
