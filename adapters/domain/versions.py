"""A version: one immutable build of an adapter, and the states it moves through.

candidate ──promote──▶ live ──replaced──▶ retired
    │                    ▲                   │
    └──gate fails──▶ rejected       promote or roll back

Every one that is not rejected becomes retired when it is withdrawn by command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from adapters.domain.gates import GateResult
from adapters.domain.names import Digest, JobId, Unit, VersionId, version_name
from adapters.errors import IllegalTransition

IMPORT = "import"
WEAKENED = "weakened"
"""Where a version's evidence tells who brought it from elsewhere, and as what."""


def signed_by(signature: str | None) -> str | None:
    """The id of the key that a signature names, whether or not it fits."""
    return None if signature is None else signature.partition(":")[0]


class VersionState(StrEnum):
    """Where a version stands."""

    CANDIDATE = "candidate"
    """Published, not (yet) put live; its unit may name it."""
    LIVE = "live"
    """At least one route serves it."""
    RETIRED = "retired"
    """Served once, or withdrawn by command; see `Version.servable`."""
    REJECTED = "rejected"
    """A gate said no; kept to be looked at, never served again."""


_NEXT = {
    VersionState.CANDIDATE: {VersionState.LIVE, VersionState.REJECTED, VersionState.RETIRED},
    VersionState.LIVE: {VersionState.RETIRED},
    VersionState.RETIRED: {VersionState.LIVE},
    VersionState.REJECTED: set(),
}


@dataclass(frozen=True, kw_only=True)
class ServedVersion:
    """As much of a version as routing and loading need."""

    id: VersionId
    adapter: str
    number: int
    unit: Unit
    digest: Digest
    """Of the manifest; names the artifact."""
    base_fingerprint: Digest
    created_at: float
    """For the list of models, which is asked often and must not read every version anew."""
    servable: bool = True
    pinned: bool = False
    """Kept resident by command, whether or not a route needs it."""
    signature: str | None = None
    """Of the digest, and of whose it is; see `adapters.signatures`."""
    shared_with: frozenset[Unit] = frozenset()
    """Other units that may be answered by it, under its own name."""

    @cached_property
    def name(self) -> str:
        """`support:8`: the engine's `lora_name` and what answers call themselves."""
        return version_name(self.adapter, self.number)


@dataclass(frozen=True, kw_only=True)
class Version:
    """What the registry knows of one build."""

    id: VersionId
    adapter: str
    number: int
    unit: Unit
    state: VersionState
    digest: Digest
    """Of the manifest; names the artifact."""
    base_fingerprint: Digest
    rank: int
    size_bytes: int
    job_id: JobId | None
    created_at: float
    gates: tuple[GateResult, ...] = ()
    evidence: dict[str, Any] | None = None
    """What the trainer measured: data digests, recipe, scores."""
    rolled_back_at: float | None = None
    """When a rollback took it out of service: it is never a rollback's target again."""
    withdrawn_at: float | None = None
    """When it was retired by command: it is never served again."""
    collected_at: float | None = None
    """When its artifact was given up by the retention; the row and its evidence stay."""
    pinned_at: float | None = None
    """When it was pinned: it stays resident and is not given up by the retention."""
    signature: str | None = None
    """Of the digest, and of whose it is; see `adapters.signatures`."""

    @property
    def name(self) -> str:
        """`support:8`: the engine's `lora_name` and what answers call themselves."""
        return version_name(self.adapter, self.number)

    @property
    def imported(self) -> bool:
        """Whether somebody brought it from elsewhere."""
        return IMPORT in (self.evidence or {})

    @property
    def servable(self) -> bool:
        """Whether a request may be answered by it."""
        gone = self.withdrawn_at is not None or self.collected_at is not None
        return self.state is not VersionState.REJECTED and not gone

    @property
    def served(self) -> ServedVersion:
        """What routing and loading need of it."""
        return ServedVersion(
            id=self.id,
            adapter=self.adapter,
            number=self.number,
            unit=self.unit,
            digest=self.digest,
            base_fingerprint=self.base_fingerprint,
            created_at=self.created_at,
            servable=self.servable,
            pinned=self.pinned_at is not None,
            signature=self.signature,
        )

    @property
    def weaker_copy_of(self) -> str | None:
        """The name of the version whose adapter it is, at less strength: their data is the same."""
        return copied_from(self.evidence or {})

    def to(self, state: VersionState) -> Version:
        """The same version in another state. Raises IllegalTransition."""
        if state is self.state:
            return self
        if state not in _NEXT[self.state]:
            raise IllegalTransition(
                f"version {self.name} is {self.state} and cannot become {state}"
            )
        return replace(self, state=state)


def copied_from(evidence: Mapping[str, Any]) -> str | None:
    """The name of the version that one with this evidence is a weaker copy of."""
    told = evidence.get(WEAKENED)
    return str(told["of"]) if isinstance(told, dict) and "of" in told else None
