"""The front of a replica: the socket that callers reach, who answers there, and who guards them.

listening socket ── the service's API processes, while they accept
                 └─ the fallback server, whenever none of them does
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.settings import Settings
from service.engine.listener import LISTENER, open_listener
from service.engine.quarantine_record import QuarantineRecord
from service.engine.vital_signs import VitalSigns
from service.instance import INSTANCE
from service.launch.child_process import ProcessSpec
from service.launch.engine_guard import EngineGuard
from service.launch.tls import certificate_files

SERVED_BY = "service"
_NEEDED = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL")
"""Of our environment, what Python needs to start."""
FALLBACK_STOP_SECONDS = 15.0
"""What the fallback server may take for its last answers."""


@dataclass(frozen=True, kw_only=True)
class Front:
    """Open as long as the supervisor runs."""

    settings: Settings
    listener: socket.socket
    guard: EngineGuard

    def behind(
        self, specs: Sequence[ProcessSpec], *, logs: Path | None, instance: str
    ) -> list[ProcessSpec]:
        """The same processes, of which the service accepts from the socket and is guarded, after
        the fallback server, which is there before the first and until the last.
        """
        fallback = self._fallback(logs=logs, instance=instance)
        return [fallback, *(self._accepting(s) if s.name == SERVED_BY else s for s in specs)]

    def _fallback(self, *, logs: Path | None, instance: str) -> ProcessSpec:
        # strangers talk to it: it is given nothing that would be worth finding out
        ours = {name: os.environ[name] for name in _NEEDED if name in os.environ}
        signs = self.settings.state_folder.vital_signs
        files = [signs, *(certificate_files(self.settings) or ())]
        return self._inheriting(
            ProcessSpec(
                name="fallback server",
                command=[sys.executable, "-m", "service.launch.fallback_server", *map(str, files)],
                environment={**ours, INSTANCE: instance},
                log=logs / "fallback-server.log" if logs else None,
                patience=FALLBACK_STOP_SECONDS,
            )
        )

    def _accepting(self, spec: ProcessSpec) -> ProcessSpec:
        return replace(self._inheriting(spec), guard=self.guard)

    def _inheriting(self, spec: ProcessSpec) -> ProcessSpec:
        number = self.listener.fileno()
        environment = {**spec.environment, LISTENER: str(number)}
        return replace(spec, environment=environment, inherits=(number,))


@contextmanager
def open_front(settings: Settings) -> Iterator[Front]:
    """Opens the socket and the files of the guard. Raises Conflict, InvalidRequest, OSError."""
    folder = settings.state_folder
    with (
        closing(open_listener(settings.host, settings.port)) as listener,
        closing(VitalSigns(folder.vital_signs)) as signs,
        closing(QuarantineRecord(folder.in_flight)) as record,
    ):
        guard = EngineGuard(signs, record, longest_silence=settings.engine_silence_seconds)
        yield Front(settings=settings, listener=listener, guard=guard)
