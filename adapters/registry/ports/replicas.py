"""Replicas: who answers, what each engine holds, and what each process has observed.

A replica is one engine with one API process or several in front. Acknowledgements (which versions
the engine holds) belong to the replica and are rows of their own; observations (the revision that
is routed by) belong to each process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from adapters.domain.names import Digest, VersionId
from adapters.domain.principals import Principal

TRUSTED_KEYS = "trusted_keys"
"""Among a replica's limits: the ids of the keys of which one must have signed what it loads; None
where it loads unsigned versions too.
"""
OnLoss = Literal["keep", "stop"]
"""What a replica does that cannot reach the registry: `keep` answering, or `stop` admitting when
its serving lease ends."""


@dataclass(frozen=True, kw_only=True)
class ProcessId:
    """One API process of one replica's one life."""

    replica: str
    """The same after a restart, so that a dead replica's rows are replaced, not waited for."""
    incarnation: str
    """Random, the same in all processes of one start."""
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What a process says of its replica when it comes."""

    process: ProcessId
    base_fingerprint: Digest
    limits: Mapping[str, Any]
    """`max_lora_rank`, `max_model_len`, `trusted_keys`, …: what the trainer asks before it spends a
    minute.
    """
    on_loss: OnLoss = "keep"


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """One version and one engine: loaded, or failed with the reason."""

    version_id: VersionId
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A replica as the registry knows it."""

    id: str
    base_fingerprint: Digest
    limits: Mapping[str, Any]
    on_loss: OnLoss
    ready: bool
    """All of its processes say so."""
    seconds_silent: float
    """Since the last heartbeat of the process that is silent longest, by the database's clock."""
    observed: int | None
    """The oldest revision that one of its processes routes by; None: one has read nothing yet."""
    loaded: frozenset[VersionId] = frozenset()
    failed: Mapping[VersionId, str] = field(default_factory=dict)

    @property
    def reporting(self) -> bool:
        """Whether it was heard lately: only then it holds up a flip."""
        return self.seconds_silent <= REPORTING_SECONDS


REPORTING_SECONDS = 10.0
"""Heartbeats come every 2 s; five missed ones are silence."""


class Replicas(Protocol):
    """Keeps what replicas and their processes report."""

    def register(self, registration: Registration) -> None:
        """Adds the process; rows of the replica's earlier incarnations go. Idempotent."""
        ...

    def heartbeat(self, process: ProcessId, *, ready: bool, lease_seconds: float) -> None:
        """Says that the process lives and, for `stop`, prolongs its serving lease.

        Raises NotFound (`replica_unknown`) when the replica was retired or replaced, or when the
        serving lease of a `stop` replica has ended: *complete* may have been said without it. It
        must register and observe again before it admits anything.
        """
        ...

    def observe(self, process: ProcessId, revision: int) -> int:
        """Records that the process routes by `revision`; the answer is the newest revision.

        A process admits its first request only when the two are equal. Never goes backwards.
        Raises NotFound (`replica_unknown`).
        """
        ...

    def acknowledge(
        self, replica: str, incarnation: str, acknowledgements: Sequence[Acknowledgement]
    ) -> None:
        """Records what the engine has loaded or failed to load. Raises NotFound."""
        ...

    def unloaded(self, replica: str, incarnation: str, versions: Sequence[VersionId]) -> None:
        """The engine holds these no longer. Raises NotFound."""
        ...

    def leave(self, process: ProcessId) -> None:
        """A clean exit; unknown processes are fine. The replica goes with its last process."""
        ...

    def retire(self, replica: str, *, by: Principal, reason: str | None = None) -> None:
        """An operator's word that a silent replica is gone.

        Raises NotFound, Conflict (`replica_reporting`) where it was heard lately.
        """
        ...

    def note_cleared(
        self, machine: str, requests: Sequence[str], *, by: Principal, reason: str | None = None
    ) -> None:
        """Tells the audit log that these requests, known by their digests, may reach the machine's
        engine again; the quarantine itself stands in that machine's state folder.

        Raises NotPermitted for who does not see every unit.
        """
        ...

    def list(self) -> Sequence[Replica]:
        """All of them, by id; silent ones too."""
        ...
