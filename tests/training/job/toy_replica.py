"""A replica of the service as the registry knows it: it reports, loads, and observes flips."""

from __future__ import annotations

import secrets
import threading
from contextlib import suppress
from typing import Any

from adapters.domain.names import Digest
from adapters.errors import WardrobeError
from adapters.registry import Registry
from adapters.registry.ports import Acknowledgement, ProcessId, Registration

FINGERPRINT = Digest("b" * 64)
BEAT = 1.0


class ToyReplica:
    """Reports from a thread of its own until `close`; loads and observes when told."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._process: ProcessId | None = None
        self._ready = True
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def report(
        self, *, ready: bool = True, base: Digest = FINGERPRINT, limits: dict[str, Any]
    ) -> None:
        """Comes (again) as a replica of this base with these limits, and goes on reporting."""
        process = ProcessId(replica="replica-1", incarnation=secrets.token_hex(4))
        self._registry.replicas.register(
            Registration(process=process, base_fingerprint=base, limits=limits)
        )
        self._process, self._ready = process, ready
        self._say()
        if not self._thread.is_alive():
            self._thread.start()

    def load(self, *, error: str | None = None) -> None:
        """Loads what open rollouts want, or fails to; routes move where they can."""
        for rollout in self._registry.routes.changes(-1).rollouts:
            if self._process is not None:
                self._registry.replicas.acknowledge(
                    self._process.replica,
                    self._process.incarnation,
                    [Acknowledgement(version_id=rollout.target, error=error)],
                )
        self._registry.rollouts.advance()

    def observe(self) -> None:
        """Routes by the newest revision; rollouts complete where they can."""
        if self._process is not None:
            self._registry.replicas.observe(self._process, self._registry.routes.revision())
        self._registry.rollouts.advance()

    def close(self) -> None:
        """Falls silent."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _say(self) -> None:
        assert self._process is not None
        self._registry.replicas.heartbeat(self._process, ready=self._ready, lease_seconds=10.0)

    def _beat(self) -> None:
        while not self._closed.wait(BEAT):
            with suppress(WardrobeError):
                self._say()
