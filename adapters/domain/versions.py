"""A version: one immutable build of an adapter, and the states it moves through.

candidate ──promote──▶ live ──replaced──▶ retired
    │                    ▲                   │
    └──gate fails──▶ rejected       promote or roll back
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from adapters.domain.gates import GateResult
from adapters.domain.names import Digest, JobId, Unit, VersionId, version_name
from adapters.errors import IllegalTransition


class VersionState(StrEnum):
    """Where a version stands."""

    CANDIDATE = "candidate"
    """Published, not (yet) put live; its unit may name it."""
    LIVE = "live"
    """At least one route serves it."""
    RETIRED = "retired"
    """Served once; may be served again."""
    REJECTED = "rejected"
    """A gate said no; kept to be looked at, never served again."""


_NEXT = {
    VersionState.CANDIDATE: {VersionState.LIVE, VersionState.REJECTED},
    VersionState.LIVE: {VersionState.RETIRED},
    VersionState.RETIRED: {VersionState.LIVE},
    VersionState.REJECTED: set(),
}


@dataclass(frozen=True, kw_only=True)
class Version:
    """What the registry knows of one build."""

    id: VersionId
    adapter: str
    number: int
    unit: Unit
    state: VersionState
    digest: Digest
    """Of the manifest; names the artifact's directory."""
    base_fingerprint: Digest
    rank: int
    size_bytes: int
    job_id: JobId | None
    created_at: float
    gates: tuple[GateResult, ...] = ()
    evidence: dict[str, Any] | None = None
    """What the trainer measured: data digests, recipe, held-out scores."""

    @property
    def name(self) -> str:
        """`support:8`: the engine's `lora_name` and what answers call themselves."""
        return version_name(self.adapter, self.number)

    @property
    def servable(self) -> bool:
        """Whether a request may be answered by it."""
        return self.state is not VersionState.REJECTED

    def to(self, state: VersionState) -> Version:
        """The same version in another state. Raises IllegalTransition."""
        if state is self.state:
            return self
        if state not in _NEXT[self.state]:
            raise IllegalTransition(
                f"version {self.name} is {self.state} and cannot become {state}"
            )
        return replace(self, state=state)
