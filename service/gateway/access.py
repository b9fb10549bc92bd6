"""Says who may reach what: one row for each route and method, and nothing else exists.

A route is found by its template and method, never by a prefix, and no decision looks at anything
but the row that was found. Of vLLM's own routes those stand here that may be reached; one that a
new version of it brings has no row. Tests compare this table with every route of both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.domain.principals import Principal, Scope
from adapters.errors import MethodNotAllowed, NotFound, NotPermitted, WardrobeError


@dataclass(frozen=True, kw_only=True)
class Access:
    """One route with one method."""

    method: str
    template: str
    scope: Scope | None
    """None: whoever asks, without a key."""
    engines: bool = False
    """Whether vLLM's own handler answers."""

    def check(self, principal: Principal) -> None:
        """Raises NotPermitted where the principal lacks the scope."""
        if self.scope is not None and not principal.may(self.scope):
            raise NotPermitted(f"this needs the scope `{self.scope}`, which your key does not have")


def _rows(scope: Scope | None, *routes: str, engines: bool = False) -> list[Access]:
    """A row for each of `GET /v1/models`, … ."""
    return [
        Access(method=method, template=template, scope=scope, engines=engines)
        for method, template in (route.split() for route in routes)
    ]


ACCESS: Sequence[Access] = (
    *_rows(None, "GET /livez", "GET /readyz", "GET /health"),
    *_rows(None, "HEAD /livez", "HEAD /readyz", "HEAD /health"),  # as some load balancers probe
    *_rows(
        Scope.INFER,
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "POST /v1/responses",
        engines=True,
    ),
    *_rows(Scope.METRICS, "GET /metrics", engines=True),
    *_rows(Scope.INFER, "GET /v1/models", "GET /v1/models/{model}"),
    *_rows(
        Scope.TRAIN,
        "GET /v1/files",
        "POST /v1/files",
        "GET /v1/files/{file_id}",
        "DELETE /v1/files/{file_id}",
        "POST /v1/uploads",
        "POST /v1/uploads/{upload_id}/parts",
        "POST /v1/uploads/{upload_id}/complete",
        "POST /v1/uploads/{upload_id}/cancel",
        "GET /v1/fine_tuning/jobs",
        "POST /v1/fine_tuning/jobs",
        "GET /v1/fine_tuning/jobs/{job_id}",
        "POST /v1/fine_tuning/jobs/{job_id}/cancel",
        "POST /v1/fine_tuning/jobs/{job_id}/pause",
        "POST /v1/fine_tuning/jobs/{job_id}/resume",
        "POST /v1/fine_tuning/jobs/{job_id}/retry",
        "GET /v1/fine_tuning/jobs/{job_id}/events",
        "GET /v1/fine_tuning/jobs/{job_id}/checkpoints",
        "POST /v1/adapters/{alias}/versions",
    ),
    *_rows(
        Scope.CONTENT,
        "GET /v1/files/{file_id}/content",
        "GET /v1/adapters/{alias}/versions/{number}/archive",
    ),
    *_rows(
        Scope.READ,
        "GET /v1/units",
        "GET /v1/status",
        "GET /v1/adapters",
        "GET /v1/adapters/{alias}",
        "GET /v1/adapters/{alias}/versions",
        "GET /v1/adapters/{alias}/versions/{number}",
        "GET /v1/adapters/{alias}/versions/{number}/report",
        "GET /v1/adapters/{alias}/versions/{number}/card",
        "GET /v1/adapters/{alias}/versions/{number}/bom",
        "GET /v1/adapters/{alias}/versions/{number}/lineage",
        "GET /v1/adapters/{alias}/evaluations",
        "GET /v1/adapters/{alias}/rollouts",
        "GET /v1/adapters/{alias}/canary",
        "GET /v1/adapters/{alias}/shadow",
        "GET /v1/audit",
        "GET /v1/organization/usage/completions",
    ),
    *_rows(
        Scope.PROMOTE,
        "POST /v1/adapters/{alias}/promote",
        "POST /v1/adapters/{alias}/rollback",
        "POST /v1/adapters/{alias}/abort",
        "POST /v1/adapters/{alias}/warm",
        "POST /v1/adapters/{alias}/canary",
        "POST /v1/adapters/{alias}/canary/weight",
        "POST /v1/adapters/{alias}/canary/scores",
        "POST /v1/adapters/{alias}/shadow",
        "POST /v1/adapters/{alias}/shadow/end",
        "POST /v1/adapters/{alias}/versions/{number}/pin",
        "POST /v1/adapters/{alias}/versions/{number}/retire",
        "DELETE /v1/models/{model}",
    ),
    *_rows(
        Scope.APPROVE,
        "POST /v1/adapters/{alias}/versions/{number}/approve",
        "POST /v1/adapters/{alias}/versions/{number}/reject",
    ),
    *_rows(
        Scope.ADMIN,
        "POST /v1/adapters/{alias}/versions/{number}/reject/withdraw",
        "GET /v1/audit/head",
        "GET /v1/audit/verify",
        "GET /v1/fine_tuning/checkpoints/{checkpoint}/permissions",
        "POST /v1/fine_tuning/checkpoints/{checkpoint}/permissions",
        "DELETE /v1/fine_tuning/checkpoints/{checkpoint}/permissions/{permission_id}",
        "GET /v1/replicas",
        "POST /v1/replicas/{replica}/retire",
        "GET /v1/keys",
        "POST /v1/keys",
        "GET /v1/keys/{key_id}",
        "POST /v1/keys/{key_id}/rotate",
        "POST /v1/keys/{key_id}/revoke",
    ),
)
"""Every route that exists, by the scope it needs."""

Methods = Mapping[str, Access]


def _methods(template: str) -> Methods:
    return {row.method: row for row in ACCESS if row.template == template}


_TEMPLATES = dict.fromkeys(row.template for row in ACCESS)
_FIXED: Mapping[str, Methods] = {each: _methods(each) for each in _TEMPLATES if "{" not in each}
_OPEN_ENDED: Sequence[tuple[re.Pattern[str], Methods]] = [
    (re.compile(re.sub(r"\{\w+\}", "[^/]+", each)), _methods(each))
    for each in _TEMPLATES
    if "{" in each
]
"""A name in a path is one segment, as in the routers; no two templates match the same path."""
_NONE: Methods = {}


def methods_at(path: str) -> Methods:
    """What may be asked for at exactly this path; nothing where it does not exist."""
    fixed = _FIXED.get(path)
    if fixed is not None:
        return fixed
    return next((found for shape, found in _OPEN_ENDED if shape.fullmatch(path)), _NONE)


def refusal(method: str, found: Methods) -> WardrobeError:
    """Why this method cannot be asked for there."""
    if not found or any(row.engines for row in found.values()):
        return NotFound(f"there is no {method[:16]} endpoint here")
    return MethodNotAllowed("this endpoint has no such method", allowed=tuple(sorted(found)))
