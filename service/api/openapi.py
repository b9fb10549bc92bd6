"""The OpenAPI document of the routes that are ours; `wardrobe openapi` prints it.

FastAPI knows paths and methods. Bodies and queries are read by our own code, because its errors
would echo what was sent, so what they may say stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from adapters.domain.files import PURPOSES
from service.api import attach
from service.api.adapters import Pin, Promote, Warm
from service.api.approvals import Withdrawal
from service.api.canaries import Scores, Start, StartShadow, Weight
from service.api.job_requests import CreateJob, RetryJob
from service.api.keys import CreateKey, RotateKey
from service.api.openapi_bodies import A_FILE, NAME, REFINED, VERSION_NAME, Json
from service.api.permissions import GrantPermissions
from service.api.request import IDEMPOTENCY_KEY
from service.api.route_commands import Command, Why
from service.api.uploads import BeginUpload, CompleteUpload
from service.api.usage import GROUPS, MAX_DAYS

_ID: Json = {"type": "string", "minLength": 1, "maxLength": 64}
_TEXT: Json = {"type": "string"}
_PATHS: Mapping[str, Json] = {
    "alias": NAME,
    "number": {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
    "model": {"type": "string", "minLength": 1, "maxLength": 64},
    "checkpoint": {
        "type": "string",
        "pattern": "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?:[1-9][0-9]{0,8}$",
    },
    "permission_id": {"type": "string", "pattern": "^cp_[0-9a-f]{24}$"},
    "file_id": {"type": "string", "pattern": "^file-[0-9a-f]{24}$"},
    "upload_id": {"type": "string", "pattern": "^upload_[0-9a-f]{24}$"},
    "job_id": {"type": "string", "pattern": "^ftjob-[0-9a-f]{24}$"},
    "key_id": {"type": "string", "pattern": "^key_[0-9a-f]{16}$"},
    "replica": _ID,
}
"""What stands for a name in a path."""
_LIMIT: Json = {"type": "integer", "minimum": 1, "maximum": 999_999}
_SECONDS: Json = {"type": "integer", "minimum": 0, "maximum": 9_999_999_999}
_PAGE: Mapping[str, Json] = {"after": _ID, "limit": _LIMIT}
_NUMBERED: Mapping[str, Json] = {
    "after": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    "limit": _LIMIT,
}
_SUBJECT: Json = {"type": "string", "pattern": f"^(base|{VERSION_NAME}|[1-9][0-9]{{0,8}})$"}
_OPEN = ("/livez", "/readyz", "/health")
_IDEMPOTENCY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY}$"},
}


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What FastAPI does not know of a route."""

    query: Mapping[str, Json] = field(default_factory=dict)
    body: type[BaseModel] | None = None
    needs_body: bool = False
    form: Json | None = None
    once: bool = False
    """Whether it may be repeated under an `Idempotency-Key`."""


_TOLD: Mapping[str, _Told] = {
    "get /v1/files": _Told(
        query={
            **_PAGE,
            "order": {"type": "string", "enum": ["asc", "desc"]},
            "purpose": {"type": "string", "enum": sorted(PURPOSES)},
        }
    ),
    "post /v1/files": _Told(form=A_FILE),
    "post /v1/uploads": _Told(body=BeginUpload, needs_body=True),
    "post /v1/uploads/{upload_id}/parts": _Told(
        form={
            "type": "object",
            "additionalProperties": False,
            "required": ["data"],
            "properties": {"data": {"type": "string", "format": "binary"}},
        }
    ),
    "post /v1/uploads/{upload_id}/complete": _Told(body=CompleteUpload, needs_body=True),
    "post /v1/uploads/{upload_id}/cancel": _Told(body=Why),
    "get /v1/fine_tuning/jobs": _Told(query=_PAGE),
    "post /v1/fine_tuning/jobs": _Told(body=CreateJob, needs_body=True, once=True),
    "get /v1/fine_tuning/jobs/{job_id}/events": _Told(query={"limit": _LIMIT}),
    "get /v1/fine_tuning/jobs/{job_id}/checkpoints": _Told(query={"limit": _LIMIT}),
    "get /v1/fine_tuning/checkpoints/{checkpoint}/permissions": _Told(
        query={
            **_PAGE,
            "project_id": NAME,
            "order": {"type": "string", "enum": ["ascending", "descending"]},
        }
    ),
    "post /v1/fine_tuning/checkpoints/{checkpoint}/permissions": _Told(
        body=GrantPermissions, needs_body=True
    ),
    "delete /v1/fine_tuning/checkpoints/{checkpoint}/permissions/{permission_id}": _Told(body=Why),
    "get /v1/adapters/{alias}/versions": _Told(query=_NUMBERED),
    "post /v1/adapters/{alias}/versions": _Told(
        form={
            "type": "object",
            "additionalProperties": False,
            "required": ["file"],
            "properties": {"file": {"type": "string", "format": "binary"}},
        }
    ),
    "get /v1/adapters/{alias}/rollouts": _Told(query=_NUMBERED),
    "get /v1/adapters/{alias}/evaluations": _Told(query={**_NUMBERED, "subject": _SUBJECT}),
    "post /v1/adapters/{alias}/promote": _Told(body=Promote, needs_body=True),
    "post /v1/adapters/{alias}/rollback": _Told(body=Command, needs_body=True),
    "post /v1/adapters/{alias}/abort": _Told(body=Command, needs_body=True),
    "post /v1/adapters/{alias}/warm": _Told(body=Warm, needs_body=True),
    "post /v1/adapters/{alias}/canary": _Told(body=Start, needs_body=True),
    "post /v1/adapters/{alias}/canary/weight": _Told(body=Weight, needs_body=True),
    "post /v1/adapters/{alias}/canary/scores": _Told(body=Scores, needs_body=True),
    "post /v1/adapters/{alias}/shadow": _Told(body=StartShadow, needs_body=True),
    "post /v1/adapters/{alias}/shadow/end": _Told(body=Command, needs_body=True),
    "post /v1/adapters/{alias}/versions/{number}/pin": _Told(body=Pin),
    "post /v1/adapters/{alias}/versions/{number}/retire": _Told(body=Why),
    "post /v1/adapters/{alias}/versions/{number}/approve": _Told(body=Why),
    "post /v1/adapters/{alias}/versions/{number}/reject": _Told(body=Why),
    "post /v1/adapters/{alias}/versions/{number}/reject/withdraw": _Told(
        body=Withdrawal, needs_body=True
    ),
    "get /v1/audit": _Told(
        query={**_NUMBERED, **dict.fromkeys(("unit", "actor", "action", "subject"), _TEXT)}
    ),
    "get /v1/organization/usage/completions": _Told(
        query={
            "start_time": _SECONDS,
            "end_time": _SECONDS,
            "bucket_width": {"type": "string", "enum": ["1d"]},
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_DAYS},
            "page": {"type": "string", "pattern": "^day_[0-9]{1,6}$"},
            "group_by": {"type": "string", "enum": list(GROUPS)},
            "project_ids": {"type": "string"},
            "models": {"type": "string"},
        }
    ),
    "get /v1/keys": _Told(query=_PAGE),
    "post /v1/keys": _Told(body=CreateKey, needs_body=True, once=True),
    "post /v1/keys/{key_id}/revoke": _Told(body=Why),
    "post /v1/replicas/{replica}/retire": _Told(body=Why),
    "delete /v1/files/{file_id}": _Told(body=Why),
    "delete /v1/models/{model}": _Told(body=Why),
    "post /v1/fine_tuning/jobs/{job_id}/cancel": _Told(body=Why),
    "post /v1/fine_tuning/jobs/{job_id}/pause": _Told(body=Why),
    "post /v1/fine_tuning/jobs/{job_id}/resume": _Told(body=Why),
    "post /v1/fine_tuning/jobs/{job_id}/retry": _Told(body=RetryJob, once=True),
    "post /v1/keys/{key_id}/rotate": _Told(body=RotateKey, once=True),
}


_NAMED_BY: Mapping[str, tuple[str, str]] = {
    "post /v1/files": ("file_id", "$response.body#/id"),
    "post /v1/uploads": ("upload_id", "$response.body#/id"),
    "post /v1/fine_tuning/jobs": ("job_id", "$response.body#/id"),
    "post /v1/keys": ("key_id", "$response.body#/id"),
    "get /v1/adapters": ("alias", "$response.body#/data/0/id"),
    "get /v1/models": ("model", "$response.body#/data/0/id"),
}
"""Whose answers hold a name that other paths take."""


def document() -> Json:
    """The whole document; needs no running service."""
    app = FastAPI()
    attach(app)
    title = "Wardrobe"
    made: Json = get_openapi(title=title, version=version("wardrobe"), routes=app.routes)
    components = made.setdefault("components", {})
    components["schemas"] = {"Error": _error()}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            _describe(operation, path, _TOLD.get(f"{method} {path}", _Told()), components)
    for name, (variable, where) in _NAMED_BY.items():
        method, path = name.split()
        links = _links(made["paths"], variable, where)
        made["paths"][path][method]["responses"]["200"]["links"] = links
    return made


def _links(paths: Json, variable: str, where: str) -> Json:
    """From an answer to every operation whose path takes that name alone."""
    return {
        operation["operationId"]: {
            "operationId": operation["operationId"],
            "parameters": {variable: where},
        }
        for path, operations in paths.items()
        for operation in operations.values()
        if f"{{{variable}}}" in path and path.count("{") == 1
    }


def _describe(operation: Json, path: str, told: _Told, components: Json) -> None:
    parameters = [
        {**each, "schema": _PATHS.get(each["name"], _ID)}
        for each in operation.get("parameters", ())
        if each["in"] == "path"
    ]
    parameters += [
        {"name": name, "in": "query", "schema": schema} for name, schema in told.query.items()
    ]
    if told.once:
        parameters.append(_IDEMPOTENCY)
    operation["parameters"] = parameters
    operation["responses"] = {"200": _found(path), **({} if path in _OPEN else _refused())}
    if path in _OPEN:
        operation["responses"]["503"] = _found(path)
    else:
        operation["security"] = [{"key": []}]
    if told.form is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": told.form}},
        }
    if told.body is not None:
        schema = _schema_of(told.body, components)
        operation["requestBody"] = {
            "required": told.needs_body,
            "content": {"application/json": {"schema": schema}},
        }


def _schema_of(model: type[BaseModel], components: Json) -> Json:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= schema.pop("$defs", {})
    refine = REFINED.get(model)
    return schema if refine is None else refine(schema)


_KINDS: Mapping[str, str] = {
    "/archive": "application/x-tar",
    "/card": "text/markdown",
    "/bom": "application/vnd.cyclonedx+json",
}
"""What is answered in a form of its own."""


def _found(path: str) -> Json:
    if path.endswith("/content"):
        kinds = ("application/jsonl", "text/csv")
        return {"description": "The bytes.", "content": {kind: {} for kind in kinds}}
    if path.endswith("/report"):
        return {"description": "One HTML page.", "content": {"text/html": {}}}
    for end, kind in _KINDS.items():
        if path.endswith(end):
            return {"description": "The document.", "content": {kind: {}}}
    schema: Json = {"type": "object"}
    if path not in _OPEN and not path.endswith("/retire"):
        schema["required"] = ["object"]
        schema["properties"] = {"object": {"type": "string"}}
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}


def _refused() -> Json:
    schema = {"$ref": "#/components/schemas/Error"}
    refusal = {"description": "Refused.", "content": {"application/json": {"schema": schema}}}
    return dict.fromkeys(("4XX", "5XX"), refusal)


def _error() -> Json:
    nullable = {"type": ["string", "null"]}
    said = {"message": {"type": "string"}, "type": {"type": "string"}, "param": nullable}
    said["code"] = {"type": "string"}
    inner = {"type": "object", "required": list(said), "properties": said}
    return {"type": "object", "required": ["error"], "properties": {"error": inner}}
