"""What the service needs of an inference engine."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Protocol

from adapters.domain.limits import Usage
from adapters.domain.names import VersionId
from adapters.domain.versions import ServedVersion


class Engine(Protocol):
    """One engine as one API process sees it."""

    @property
    def resident(self) -> AbstractSet[VersionId]:
        """Versions that this process answers under their names."""
        ...

    @property
    def alive(self) -> bool:
        """False once the engine has died; it does not come back in this process."""
        ...

    @property
    def limits(self) -> Mapping[str, Any]:
        """`max_lora_rank`, `max_model_len`, `max_cpu_loras`, `engine`; where they are known, also
        `max_num_seqs`, `vocabulary` (tokens), and `scheduling`: `priority` where requests may
        name one.
        """
        ...

    async def ping(self, *, workers: bool) -> None:
        """Returns once the engine's core has answered, and with `workers` what computes for it,
        however long it takes.

        Raises EngineUnavailable when the engine is gone.
        """
        ...

    async def load(self, version: ServedVersion, path: Path) -> None:
        """Makes a version answer under its name; already resident is fine.

        Raises Rejected when the engine refuses it or it has no effect, EngineUnavailable when
        the engine is gone or does not answer.
        """
        ...

    async def unload(self, version_id: VersionId) -> None:
        """Takes a version out; the caller has made sure that no request uses it.

        It no longer answers, whatever is raised: the same as `load`.
        """
        ...

    def name(self, version: ServedVersion, path: Path) -> None:
        """Makes this process answer under the name of what another process has loaded."""
        ...

    def forget(self, version_id: VersionId) -> None:
        """Takes back the name: another process has unloaded the version."""
        ...

    def spent(self, request_id: str) -> Usage | None:
        """What a request has used so far, by the id it was handed over with; None when the engine
        does not work on it, because it has not begun, has ended, or is another process's.
        """
        ...
