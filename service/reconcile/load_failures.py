"""What could not be loaded, why, and when it is worth another try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from adapters.domain.names import VersionId
from adapters.domain.versions import Version
from adapters.errors import Rejected, WardrobeError

RETRY_SECONDS = 10.0
"""Between attempts to load a version that failed."""

log = structlog.get_logger("wardrobe.swap")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The cause, and when it was last met (`clock` seconds)."""

    error: WardrobeError
    at: float


class Failures:
    """The last failure of each version that is not loaded since."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_version: dict[VersionId, Failure] = {}

    def note(self, version: Version, error: Exception) -> None:
        """Logs and keeps a failure; one that nobody foresaw is told as no more than that."""
        if isinstance(error, WardrobeError):
            known = error
            log.warning("load_failed", version=version.name, reason=known.reason)
        else:
            known = Rejected(f"{version.name} cannot be loaded")
            log.error("load_failed", version=version.name, exc_info=error)
        self._by_version[version.id] = Failure(error=known, at=self._clock())

    def forget(self, version: VersionId) -> None:
        """It is loaded now."""
        self._by_version.pop(version, None)

    def lately(self, version: VersionId) -> bool:
        """Whether it failed so short a time ago that nobody should try again yet."""
        failure = self._by_version.get(version)
        return failure is not None and self._clock() - failure.at < RETRY_SECONDS

    def reason(self, version: VersionId) -> str | None:
        """Why it is not here, for operators."""
        failure = self._by_version.get(version)
        return failure.error.message if failure else None
