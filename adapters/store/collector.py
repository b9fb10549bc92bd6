"""The collector: deletes files, adapters and datasets that nothing may name any more.

Safe against an upload or a publish of the same bytes at the same time, and against a kill at any
moment, by this order: list what is stored, then ask what is named, then condemn (one transaction
of the registry, which refuses what was named meanwhile; no row can name what is condemned), then
delete, then clear. The other half of it is `adapters.store.recording`.

Bases are not collected: no row of the registry names them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from adapters.domain.names import Digest
from adapters.errors import WardrobeError
from adapters.store.port import Artifact, ArtifactKind, ArtifactStore

BATCH = 50
"""Artifacts condemned at once."""
DELETE_WITHIN_S = 60.0
"""After this long no deletion of a batch begins any more; what is left is left condemned."""
_log = logging.getLogger(__name__)


class Roots(Protocol):
    """What the collector needs of the registry."""

    def roots(self) -> AbstractSet[Digest]:
        """Every digest that a row names: files, versions by state, datasets, what replicas hold.

        Read in one transaction.
        """
        ...

    def condemn(self, digests: AbstractSet[Digest]) -> AbstractSet[Digest]:
        """Marks digests for deletion in one transaction; the answer is those it accepted.

        Refused is what a row names, and what is condemned already unless that was an hour ago by
        the database's clock: whoever condemned it has ended then, the deadlines of its last
        deletion included. Until then a row that would name it is refused with `Condemned`.
        """
        ...

    def clear(self, digests: AbstractSet[Digest]) -> None:
        """Takes the marks away; what has none is fine."""
        ...

    def clear_abandoned(self, *, keep: AbstractSet[Digest]) -> None:
        """Takes away, in one transaction, marks set an hour ago, but those in `keep`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What one run did."""

    deleted: int
    deleted_bytes: int
    left: int
    """Not deleted: named meanwhile, in use, out of time or not answered for. A later run's."""


def collectable(
    artifacts: Iterable[Artifact], named: AbstractSet[Digest], *, now: float, grace_s: float
) -> list[Artifact]:
    """What nothing names and nobody has touched within the grace period, oldest first."""
    found = [
        artifact
        for artifact in artifacts
        if artifact.kind is not ArtifactKind.BASE
        and artifact.digest not in named
        and artifact.modified_at < now - grace_s
    ]
    return sorted(found, key=lambda artifact: artifact.modified_at)


class Collector:
    """Deletes artifacts that nothing names; several at once do not harm each other."""

    def __init__(
        self,
        store: ArtifactStore,
        roots: Roots,
        *,
        grace_s: float,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._roots = roots
        self._grace_s = grace_s
        self._now = now
        self._monotonic = monotonic

    def run(self) -> Collected:
        """Collects once. Blocks; raises Unavailable where registry or storage cannot be read."""
        stored = list(self._store.list())
        doomed = collectable(stored, self._roots.roots(), now=self._now(), grace_s=self._grace_s)
        # What a killed run condemned and is not to be deleted now, because it is gone already or
        # was put again: nobody need wait for that any longer.
        self._roots.clear_abandoned(keep={artifact.digest for artifact in doomed})
        deleted: list[Artifact] = []
        for batch in _batches(doomed):
            deleted += self._collect(batch)
        return Collected(
            deleted=len(deleted),
            deleted_bytes=sum(artifact.size_bytes for artifact in deleted),
            left=len(doomed) - len(deleted),
        )

    def _collect(self, batch: Sequence[Artifact]) -> list[Artifact]:
        """Condemns, deletes, clears; the answer is what was deleted.

        What could not be deleted stays condemned: a deletion without an answer may still happen.
        """
        until = self._monotonic() + DELETE_WITHIN_S
        accepted = self._roots.condemn({artifact.digest for artifact in batch})
        deleted: list[Artifact] = []
        unanswered: set[Digest] = set()
        for artifact in batch:
            if artifact.digest not in accepted or self._monotonic() > until:
                continue
            try:
                if self._store.delete(artifact.digest, artifact.kind):
                    deleted.append(artifact)
            except (WardrobeError, OSError) as error:
                _log.warning("an artifact was not deleted: %s", type(error).__name__)
                unanswered.add(artifact.digest)
        self._roots.clear(accepted - unanswered)
        return deleted


def _batches(artifacts: Sequence[Artifact]) -> Iterator[Sequence[Artifact]]:
    for start in range(0, len(artifacts), BATCH):
        yield artifacts[start : start + BATCH]
