"""Every error Wardrobe raises on purpose, drawn as one tree.

    WardrobeError
    ├── InvalidRequest            400  the caller's words are wrong
    │   └── InvalidFile           400  a training file's words are wrong
    ├── InvalidKey                401
    ├── NotPermitted              403
    ├── NotFound                  404  unknown, or another unit's: the two look the same
    ├── MethodNotAllowed          405
    ├── Conflict                  409
    │   ├── VersionConflict       409  compare-and-set lost
    │   ├── IllegalTransition     409  the state forbids it
    │   └── RolloutFailed         409  a replica could not load the version
    ├── TooLarge                  413
    ├── Rejected                       an adapter directory that must not reach the engine
    ├── LeaseLost                      the trainer's hold on the job no longer counts
    ├── StorageFull               507
    ├── RateLimited               429
    ├── QuotaExceeded             429  a budget is used up: waiting a moment does not help
    └── Unavailable               503  try again later
        ├── EngineUnavailable     503
        ├── Overloaded            503  others are served first for too long
        ├── Condemned             503  the same bytes are being deleted
        └── Draining              503

`code` is the machine's word and `message` the human's; the service maps classes to HTTP in one
table (`service.http_errors`). A message never carries content, keys or paths a caller did not send.
"""

from __future__ import annotations

from typing import ClassVar


class WardrobeError(Exception):
    """Something went wrong that Wardrobe foresaw."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.reason = code or self.code


class InvalidRequest(WardrobeError):
    """The request cannot be understood or is not allowed to say this."""

    code = "invalid_request"


class InvalidFile(InvalidRequest):
    """A training or validation file cannot be used."""

    code = "invalid_training_file"


class InvalidKey(WardrobeError):
    """No key, or one that is not known."""

    code = "invalid_api_key"


class NotPermitted(WardrobeError):
    """The key is known and may not do this."""

    code = "insufficient_permissions"


class NotFound(WardrobeError):
    """There is no such thing for this caller."""

    code = "not_found"


class MethodNotAllowed(WardrobeError):
    """There is something at this path, for other methods."""

    code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class Conflict(WardrobeError):
    """The state of things forbids it now."""

    code = "conflict"


class VersionConflict(Conflict):
    """Someone else changed it first."""

    code = "version_conflict"


class IllegalTransition(Conflict):
    """That state cannot follow this one."""

    code = "illegal_transition"


class RolloutFailed(Conflict):
    """A replica could not load the version; the route is as it was."""

    code = "rollout_failed"


class TooLarge(WardrobeError):
    """More bytes than allowed."""

    code = "request_too_large"


class Rejected(WardrobeError):
    """The adapter directory is not one the service may load."""

    code = "adapter_rejected"


class LeaseLost(WardrobeError):
    """The job is another trainer's now, or is being cancelled; this one's work no longer counts."""

    code = "lease_lost"


class StorageFull(WardrobeError):
    """There is no room left where artifacts are kept; free some and try again."""

    code = "storage_full"


class RateLimited(WardrobeError):
    """More than the unit's limits allow; try again in `retry_after` seconds."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, param: str | None = None, retry_after: float = 1.0) -> None:
        super().__init__(message, param=param)
        self.retry_after = retry_after


class QuotaExceeded(WardrobeError):
    """A budget of a day or a month is used up."""

    code = "insufficient_quota"


class Unavailable(WardrobeError):
    """Not now; the same request may work in `retry_after` seconds."""

    code = "unavailable"
    retry_after: int = 2

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code)
        if retry_after is not None:
            self.retry_after = retry_after


class EngineUnavailable(Unavailable):
    """The inference engine does not answer."""

    code = "engine_unavailable"
    retry_after = 15


class Overloaded(Unavailable):
    """The engine has more to do than it can, and this request's turn did not come in time."""

    code = "server_is_overloaded"
    retry_after = 5


class Condemned(Unavailable):
    """An artifact with the same bytes is being deleted; a row may name them when that is over."""

    code = "artifact_condemned"


class Draining(Unavailable):
    """This replica is shutting down."""

    code = "draining"
    retry_after = 5
