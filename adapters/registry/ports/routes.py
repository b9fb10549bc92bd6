"""Routes and rollouts: what answers to an alias, and the whole commands that change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.domain.api_keys import Key
from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.pages import Page
from adapters.domain.principals import Principal
from adapters.domain.routes import Rollout, Route
from adapters.domain.versions import ServedVersion
from adapters.registry.ports.canaries import RouteCommand


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a replica needs to route, as far as it changed after a revision; read at one moment.

    Costs what has changed, whatever the number of versions ever made.
    """

    revision: int
    routes: Sequence[Route] = ()
    versions: Sequence[ServedVersion] = ()
    """Those that changed; one that is not `servable` any more is to be forgotten."""
    keys: Sequence[Key] = ()
    """Those that changed; a revoked one is to be forgotten."""
    rollouts: Sequence[Rollout] = ()
    """Every rollout that is loading or flipped, changed or not: they are few."""


class Routes(Protocol):
    """Reads what replicas route by."""

    def revision(self) -> int:
        """Grows whenever `changes` would differ. Cheap: polled several times a second."""
        ...

    def changes(self, since: int) -> Changes:
        """Everything that changed after revision `since`; -1 reads all of it.

        So does a `since` that the registry has not reached: it was restored from a backup, and
        whoever asks forgets what it knew.
        """
        ...

    def route(self, alias: Alias, unit: Unit) -> Route:
        """The unit's route, or one without a version where it has none.

        An alias that was moved here from another unit starts anew, with the generation it has.
        """
        ...


class Rollouts(Protocol):
    """Takes the commands that move a route.

    A rollout is `loading` until every replica that reports has the target, then the route moves
    and it is `flipped`, and it is `complete` once every replica that may still answer has observed
    that.
    """

    def promote(
        self,
        alias: Alias,
        version_id: VersionId,
        principal: Principal,
        *,
        unit: Unit,
        expected_generation: int | None,
        reason: str | None = None,
        needs_approval: bool = False,
    ) -> Rollout:
        """Starts putting a version live; bumps the revision.

        A route that serves the version already is left alone: the answer is its newest rollout.
        Repeating a promotion that names its generation returns the rollout it began, unless that
        failed: then another is begun. A rollout that another unit began before the alias was moved
        ends. Raises VersionConflict (the generation moved), Conflict (`rollout_in_progress`;
        `job_state` where the principal is a cancelled job's; `version_rolled_back` where the
        version was rolled back from and no generation is named; `canary_in_progress` unless the
        version is that canary; what `check_promotable` and `check_approved` say), NotFound.
        """
        ...

    def roll_back(
        self,
        alias: Alias,
        principal: Principal,
        *,
        unit: Unit,
        expected_generation: int,
        reason: str | None = None,
    ) -> Rollout:
        """Starts returning to the newest good version before the live one; bumps the revision.

        The live one is marked when the route flips and is never a rollback's target again. While a
        canary answers, it is that which is taken out, at once, and marked.
        Repeating it with the same generation returns the rollout it began and changes nothing,
        unless that failed: then another is begun.
        Raises VersionConflict, Conflict (`nothing_to_roll_back`, `rollout_in_progress`), NotFound.
        """
        ...

    def abort(self, command: RouteCommand) -> Rollout:
        """Ends what is under way for an alias: what is loading fails, and a canary answers no more,
        without a mark. Bumps the revision.

        The answer is the rollout that took the canary out, else the one that has failed. Repeating
        it changes nothing. Raises VersionConflict, Conflict (`nothing_to_abort`), NotFound.
        """
        ...

    def warm(self, command: RouteCommand, version_id: VersionId) -> Rollout:
        """Starts loading a version everywhere, and leaves the route as it is; bumps the revision.

        It gives way to any command that changes the route. Raises VersionConflict, Conflict
        (`rollout_in_progress`, `foreign_version`, `version_retired`, `version_rejected`), NotFound.
        """
        ...

    def advance(self) -> Sequence[Rollout]:
        """Moves every open rollout as far as acknowledgements and observations allow, and every
        canary as far as its counts do.

        The answer is those that moved or began, as they are now. Any replica may call it at any
        time.
        """
        ...

    def get(self, rollout_id: int) -> Rollout:
        """Raises NotFound."""
        ...

    def waits_for(self, rollout_id: int) -> Sequence[str]:
        """Ids of replicas that have not loaded (loading) or not observed (flipped); sorted."""
        ...

    def history(self, alias: Alias, unit: Unit, *, after: str | None, limit: int) -> Page[Rollout]:
        """The unit's rollouts of an alias, newest first; `after` is a rollout's id as text."""
        ...
