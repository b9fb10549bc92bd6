"""Proves versions that were imported, while no job waits for the trainer.

Each is evaluated as a version that is evaluated again: by a process of its own, through the
service, on the test part of its adapter's newest job. One that nobody could measure is tried once
by each trainer process; `wardrobe adapters evaluate` tries again. Where several trainers run, two
may measure the same one: the later verdicts are kept, and nothing else comes of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from adapters.domain.names import Digest, VersionId
from adapters.domain.versions import Version
from adapters.registry.ports import Datasets, Versions
from training.worker.child_process import Child, describe_exit, start

LOOK_SECONDS = 5.0
"""Between two looks for what was imported."""
_POLL = 0.25
_STOP_PATIENCE = 10.0

_log = structlog.get_logger(__name__)


class ImportProver:
    """Used by the trainer's one thread, with which its processes die."""

    def __init__(
        self,
        *,
        versions: Versions,
        datasets: Datasets,
        command: Callable[[str], Sequence[str]],
        environment: Mapping[str, str],
        stopping: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`command` evaluates the version of this name, and ends."""
        self._versions = versions
        self._datasets = datasets
        self._command = command
        self._environment = environment
        self._stopping = stopping
        self._clock = clock
        self._tried: set[VersionId] = set()
        self._next = 0.0

    def step(self, bases: Collection[Digest]) -> bool:
        """Evaluates one version for one of the served `bases`, if there is any; whether it did.

        Raises what the registry raises.
        """
        if self._clock() < self._next:
            return False
        version = self._find(bases)
        if version is None:
            self._next = self._clock() + LOOK_SECONDS
            return False
        self._tried.add(version.id)
        _log.info("import_evaluated", version=version.name)
        self._wait_for(start(self._command(version.name), self._environment), version)
        return True

    def _find(self, bases: Collection[Digest]) -> Version | None:
        wanted = (each for each in self._versions.unproven_imports() if each.id not in self._tried)
        return next(
            (
                each
                for each in wanted
                if each.base_fingerprint in bases and self._datasets.newest(each.adapter)
            ),
            None,
        )

    def _wait_for(self, child: Child, version: Version) -> None:
        try:
            while (code := child.ended(within=_POLL)) is None:
                if self._stopping.is_set():
                    child.ask_to_stop()
                    child.ended(within=_STOP_PATIENCE)
                    return
            # 1 is a gate's no, too: the version's own verdicts tell that
            if code not in (0, 1):
                _log.warning("import_not_evaluated", version=version.name, how=describe_exit(code))
        finally:
            child.kill()
