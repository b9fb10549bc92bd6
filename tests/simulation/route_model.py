"""What routes are by the commands alone: the small model beside which the real thing is run."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapters.domain.names import Alias, VersionId
from adapters.domain.routes import Action, Rollout


@dataclass
class Served:
    """One alias."""

    stable: VersionId | None = None
    canary: VersionId | None = None
    weight: float = 0.0
    generation: int = 0
    history: list[VersionId] = field(default_factory=list)
    loading: bool = False
    """Whether a change that may not be overtaken is on its way."""

    @property
    def answering(self) -> set[VersionId]:
        return {version for version in (self.stable, self.canary) if version is not None}


@dataclass
class Model:
    """Every alias, and what became of versions."""

    served: dict[Alias, Served]
    unproven: set[VersionId] = field(default_factory=set)
    """Their gates have not passed."""
    rolled_back: set[VersionId] = field(default_factory=set)
    withdrawn: set[VersionId] = field(default_factory=set)
    acknowledged: dict[int, tuple[Action, VersionId]] = field(default_factory=dict)
    """Rollouts that an answer has named: nothing may lose them."""
    applied: set[int] = field(default_factory=set)

    def is_good(self, version: VersionId) -> bool:
        return version not in self.unproven | self.withdrawn

    def may_promote(self, alias: Alias, version: VersionId) -> bool:
        """By a command that names the generation."""
        at = self.served[alias]
        if at.loading or at.canary not in (None, version):
            return False
        return version == at.stable or self.is_good(version)

    def may_start_canary(self, alias: Alias, version: VersionId) -> bool:
        at = self.served[alias]
        beside = at.stable is not None and at.canary is None and version not in at.answering
        return beside and not at.loading and self.is_good(version)

    def rollback_target(self, alias: Alias) -> VersionId | None:
        """Where a rollback leads: the stable version, where a canary answers beside it."""
        at = self.served[alias]
        if at.canary is not None:
            return at.stable
        bad = self.rolled_back | self.withdrawn | {at.stable}
        return next((version for version in reversed(at.history) if version not in bad), None)

    def may_roll_back(self, alias: Alias) -> bool:
        at = self.served[alias]
        busy = at.loading and at.canary is None
        return not busy and self.rollback_target(alias) is not None

    def may_retire(self, version: VersionId, wanted: set[VersionId]) -> bool:
        """`wanted`: targets of what is loading."""
        named = wanted.union(*(at.answering for at in self.served.values()))
        return version not in named

    def flipped(self, rollout: Rollout) -> None:
        """The route has moved."""
        at = self.served[rollout.alias]
        before = at.answering
        at.generation += 1
        match rollout.action:
            case Action.CANARY:
                at.canary, at.weight = rollout.target, rollout.weight or 0.0
                return
            case Action.WEIGHT:
                at.weight = rollout.weight or 0.0
                return
            case Action.PROMOTE | Action.ROLL_BACK:
                at.stable = rollout.target
                at.history.append(rollout.target)
            case _:
                pass
        at.canary, at.weight = None, 0.0
        if rollout.action is Action.ROLL_BACK:
            self.rolled_back |= before - {rollout.target}
