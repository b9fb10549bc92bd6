"""The port for deleting, after a stated retention, what nobody may name any more."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from adapters.domain.names import Digest


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long things stay that no route, rollout, rollback, replica or running job names.

    Versions retired by command do not.
    """

    retired_versions: int = 10
    """Newest retired versions of an adapter whose artifacts are kept, to roll back to."""
    rejected_days: float = 30.0
    candidate_days: float = 90.0
    """Candidates that were never promoted."""
    event_days: float = 90.0
    """Events and checkpoints of finished jobs; ended rollouts beyond history; what is left of
    deleted files; which questions an adapter without versions was taught. Revoked keys stay: a key
    that is brought in a Secret would come back to life."""


class Collection(Protocol):
    """Deletes rows of the registry; versions keep their row and evidence for ever."""

    def collect(self, retention: Retention) -> Mapping[str, int]:
        """Marks versions as collected (never served again), deletes rows by the retention.

        Never what a route, an open rollout, a rollback or an unfinished job could still name. The
        answer counts by kind. Repeating it at once finds nothing more.
        """
        ...

    def roots(self) -> AbstractSet[Digest]:
        """Digests that a version, an engine, a file, a job or its dataset may still need."""
        ...

    def condemn(self, digests: AbstractSet[Digest]) -> AbstractSet[Digest]:
        """Those of `digests` that are no roots now and that nobody else has condemned lately.

        Adding a row that names one of them raises Condemned until `clear`, for an hour at most:
        whoever condemned it has surely ended then.
        """
        ...

    def clear(self, digests: AbstractSet[Digest]) -> None:
        """Their bytes are gone, or stay after all."""
        ...

    def clear_abandoned(self, *, keep: AbstractSet[Digest]) -> None:
        """Takes away marks that are over an hour old, but those of `keep`."""
        ...
