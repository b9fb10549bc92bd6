"""Load failures: which versions this replica cannot serve, why, and when they are tried again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adapters.domain.names import Digest
from adapters.domain.versions import ServedVersion
from adapters.errors import (
    Conflict,
    EngineUnavailable,
    NotFound,
    Rejected,
    StorageFull,
    Unavailable,
)
from service.engine.shared_residency import Failure, Reason, SharedResidency
from service.reconcile.route_table import RouteTable

RETRY_SECONDS = 10.0
"""Between attempts to load a version that failed."""

_REASON_OF: Sequence[tuple[type[BaseException], Reason]] = (
    (NotFound, Reason.ARTIFACT_MISSING),
    (EngineUnavailable, Reason.ENGINE_UNAVAILABLE),
    (Rejected, Reason.ENGINE_REFUSED),
    (StorageFull, Reason.STORE_UNAVAILABLE),
    (Unavailable, Reason.STORE_UNAVAILABLE),
    (TimeoutError, Reason.STORE_UNAVAILABLE),
)
_REASON_OF_REJECTED: Mapping[str, Reason] = {
    "adapter_damaged": Reason.ARTIFACT_DAMAGED,
    "signature_missing": Reason.SIGNATURE_MISSING,
    "signature_untrusted": Reason.SIGNATURE_UNTRUSTED,
    "signature_invalid": Reason.SIGNATURE_INVALID,
}
_TOLD: Mapping[Reason, str] = {
    Reason.ARTIFACT_DAMAGED: "its artifact is damaged",
    Reason.ARTIFACT_MISSING: "its artifact is missing",
    Reason.STORE_UNAVAILABLE: "the artifact store does not answer",
    Reason.ENGINE_REFUSED: "the engine cannot load it",
    Reason.ENGINE_UNAVAILABLE: "the engine does not answer",
    Reason.NO_SLOT: "no slot became free: raise WARDROBE_MAX_CPU_LORAS or serve fewer aliases",
    Reason.BASE_MISMATCH: "it was trained on another base model than the one served; train it anew",
    Reason.LOAD_FAILED: "loading it failed",
    Reason.SIGNATURE_MISSING: "it is not signed; `wardrobe signatures adopt` signs what you trust",
    Reason.SIGNATURE_UNTRUSTED: "it is signed by a key that is not trusted here",
    Reason.SIGNATURE_INVALID: "its signature does not fit it",
}


def reason_of(error: Exception) -> Reason:
    """What an attempt to fetch or to load a version failed by."""
    if isinstance(error, Rejected) and error.reason in _REASON_OF_REJECTED:
        return _REASON_OF_REJECTED[error.reason]
    found = (reason for kind, reason in _REASON_OF if isinstance(error, kind))
    return next(found, Reason.LOAD_FAILED)


def told(reason: Reason) -> str:
    """A reason for people; it names no path and nothing of another unit."""
    return _TOLD[reason]


class LoadFailures:
    """Reads what any process of the engine has found, and knows which base is served."""

    def __init__(
        self,
        *,
        table: RouteTable,
        residency: SharedResidency,
        base_fingerprint: Digest,
        clock: Callable[[], float],
    ) -> None:
        """`clock`: the residency's own, for its times are compared."""
        self._table = table
        self._residency = residency
        self._base_fingerprint = base_fingerprint
        self._clock = clock

    def of(self, version: ServedVersion) -> Failure | None:
        """Why a version cannot be served by this replica."""
        if version.base_fingerprint != self._base_fingerprint:
            return Failure(reason=Reason.BASE_MISMATCH, at=0.0)
        return self._residency.failure(version.id)

    def may_be_tried(self, version: ServedVersion) -> bool:
        """Whether loading it may be tried now."""
        failure = self.of(version)
        if failure is None:
            return True
        return failure.reason is not Reason.BASE_MISMATCH and not self._is_recent(failure)

    def is_refused(self, version: ServedVersion) -> bool:
        """Whether no request waits for it. What a route needs is tried again without being asked
        for: nobody waits for that.
        """
        failure = self.of(version)
        if failure is None:
            return False
        return self._is_recent(failure) or version in self._table.required()

    def check(self, version: ServedVersion) -> None:
        """Raises Conflict (`base_mismatch`) where a version never answers, and Unavailable
        (`version_unavailable`) where no request waits for it.
        """
        failure = self.of(version)
        if failure is None:
            return
        if failure.reason is Reason.BASE_MISMATCH:
            raise Conflict(
                f"{version.name}: {told(failure.reason)}", param="model", code="base_mismatch"
            )
        if self.is_refused(version):
            raise Unavailable(
                f"{version.name} cannot be served now: {told(failure.reason)}",
                param="model",
                code="version_unavailable",
            )

    def _is_recent(self, failure: Failure) -> bool:
        return self._clock() - failure.at < RETRY_SECONDS
