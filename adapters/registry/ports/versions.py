"""Versions: publishing under the fence, verdicts, retirement."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from adapters.domain.gates import GateResult
from adapters.domain.names import Alias, Digest, JobId, Unit, VersionId
from adapters.domain.pages import Page
from adapters.domain.principals import SYSTEM, Principal
from adapters.domain.versions import Version


@dataclass(frozen=True, kw_only=True)
class NewVersion:
    """A published artifact on its way to becoming a version; the registry gives the number."""

    adapter: str
    unit: Unit
    digest: Digest
    base_fingerprint: Digest
    rank: int
    size_bytes: int
    evidence: Mapping[str, Any]
    signature: str | None = None


class Versions(Protocol):
    """Keeps every version of every adapter."""

    def publish(
        self,
        new: NewVersion,
        *,
        job_id: JobId | None,
        fence: int | None,
        by: Principal = SYSTEM,
    ) -> Version:
        """A candidate with the adapter's next number; bumps the revision.

        What no job has made is published by `by`.

        At most one version per job: a second call for the same job returns the first version.
        Raises LeaseLost when `job_id` is given and `fence` is not its current one, or a cancel of
        the job was asked for; Conflict (`foreign_adapter`); Condemned.
        """
        ...

    def publish_copy(self, new: NewVersion, *, job_id: JobId, fence: int) -> Version:
        """A weaker copy of what the job has published (its evidence says of which version), as the
        adapter's next number; bumps the revision.

        The same bytes of the same version are published once. Raises LeaseLost as `publish` does;
        Conflict (`foreign_adapter`); Condemned.
        """
        ...

    def record_gates(
        self,
        version_id: VersionId,
        gates: Sequence[GateResult],
        *,
        fence: int,
        evidence: Mapping[str, Any],
    ) -> Version:
        """Keeps the verdicts, merges `evidence`; rejects a version that failed.

        Only who holds the lease of the job that made the version, or the one that it is a weaker
        copy of, may judge it, and once: raises NotFound, LeaseLost, and IllegalTransition
        (`already_judged`). Bumps the revision where it rejects.
        """
        ...

    def judge_again(
        self,
        version_id: VersionId,
        gates: Sequence[GateResult],
        *,
        evidence: Mapping[str, Any],
    ) -> Version:
        """Replaces the verdicts of a version that was evaluated again, merges `evidence`.

        A candidate that failed is rejected; a version that is or was live keeps its state, and one
        that failed is promoted no more. Raises NotFound; Conflict (`version_retired`,
        `version_rejected`, `job_state` while the job that made it runs). Bumps the revision where
        it rejects.
        """
        ...

    def get(self, adapter: str, number: int, principal: Principal) -> Version:
        """Raises NotFound when unknown or another unit's."""
        ...

    def by_id(self, version_id: VersionId) -> Version:
        """Raises NotFound."""
        ...

    def of_job(self, job_id: JobId) -> Version | None:
        """What the job has published."""
        ...

    def unproven_imports(self) -> Sequence[Version]:
        """Candidates that somebody brought and no gate has spoken for or against yet, oldest first.

        Among them those that could not be measured.
        """
        ...

    def list(
        self, principal: Principal, *, adapter: str | None, after: str | None, limit: int
    ) -> Page[Version]:
        """Newest first; `after` is a version's name (`support:7`)."""
        ...

    def sign(
        self,
        signatures: Mapping[VersionId, str],
        principal: Principal,
        *,
        reason: str | None = None,
    ) -> int:
        """Gives versions these signatures, in the place of what they had; how many that changed.

        Whoever calls this trusts their bytes. Bumps the revision where it changes any. Raises
        NotFound.
        """
        ...

    def pin(
        self,
        version_id: VersionId,
        principal: Principal,
        *,
        pinned: bool,
        reason: str | None = None,
    ) -> Version:
        """Keeps a version resident in every engine of its base, and its artifact; or no longer.

        Bumps the revision; repeating it changes nothing. Raises NotFound; Conflict
        (`version_retired`, `version_rejected`, `too_many_pins`).
        """
        ...

    def retire(
        self,
        version_id: VersionId,
        principal: Principal,
        *,
        aliases: Collection[Alias],
        unneeded: bool = False,
        reason: str | None = None,
    ) -> Version:
        """Withdraws a version: it is never served again and its artifact is collected.

        With `unneeded`, only where nothing could still name it: else Conflict (`version_in_use`)
        for a version that a route, an open rollout, a rollback, a pin or an unfinished job names.
        Bumps the revision; repeating it changes nothing. `aliases` are those that the configuration
        gives to the version's unit. Raises NotFound; Conflict (`version_live`) while the unit's
        route of one of them serves it or a rollout of one wants it; other routes are emptied.
        """
        ...
